"""What the log says of one payment, as facts for a slip.

Owns the way from entries to one standing. Must never say more than an entry proves: what is open is "being checked".
Personal values come in opened, or they are not there.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Disclosure, RecordedEntry
from appliance.ledger.entry import Entry, EntryHash, entry_hash
from appliance.model.errors import Rejected
from appliance.model.limits import ENTRY_BYTES_MAX
from appliance.model.operation import OperationKind, OperationState
from appliance.model.parts import SaleInParts
from appliance.model.payment import STATE_AFTER, PaymentState
from appliance.payment.entry_body import given_minor, state_after_refund
from appliance.payment.part_rows import is_in_parts
from appliance.payment.records import StandingPayment
from appliance.wire import entries

BodyT = TypeVar("BodyT", bound=msgspec.Struct)

_PERSONAL: Final = ("cashier", "customer")
_READ_BY_LINK: Final = (OperationKind.OFFER, OperationKind.AUTHORISE, OperationKind.FORWARD)


class Standing(StrEnum):
    """What a slip may say of the money.

    `NOT_GIVEN_BACK` is what the end of a refused refund or reversal says by itself: the payment stands as before.
    """

    PAID = "paid"
    AUTHORISED = "authorised"
    ACCEPTED_OFFLINE = "accepted_offline"
    DECLINED_AFTER_HANDOVER = "declined_after_handover"
    CHECKING = "being_checked"
    DECLINED = "declined"
    EXPIRED = "expired"
    NOT_CHARGED = "not_charged"
    PARTLY_REFUNDED = "partly_refunded"
    REFUNDED = "refunded"
    REVERSED = "reversed"
    CANCELLED = "cancelled"
    NOT_GIVEN_BACK = "not_given_back"


_STANDING: Final[dict[PaymentState, Standing]] = {
    PaymentState.APPROVED: Standing.PAID,
    PaymentState.AUTHORISED: Standing.AUTHORISED,
    PaymentState.ACCEPTED_OFFLINE: Standing.ACCEPTED_OFFLINE,
    PaymentState.DECLINED_AFTER_HANDOVER: Standing.DECLINED_AFTER_HANDOVER,
    PaymentState.EXPIRED: Standing.EXPIRED,
    PaymentState.CHECKING: Standing.CHECKING,
    PaymentState.DECLINED: Standing.DECLINED,
    PaymentState.NOT_CHARGED: Standing.NOT_CHARGED,
    PaymentState.PARTLY_REFUNDED: Standing.PARTLY_REFUNDED,
    PaymentState.REFUNDED: Standing.REFUNDED,
    PaymentState.REVERSED: Standing.REVERSED,
    PaymentState.CANCELLED: Standing.CANCELLED,
}

_KEEPS_MONEY: Final = frozenset(
    {
        Standing.PAID,
        Standing.AUTHORISED,
        Standing.ACCEPTED_OFFLINE,
        Standing.PARTLY_REFUNDED,
        Standing.NOT_GIVEN_BACK,
    }
)
_REFUSED_REVERSALS: Final = frozenset(
    {(OperationKind.REVERSE, OperationState.REJECTED), (OperationKind.CANCEL, OperationState.REJECTED)}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopFace:
    """How the shop shows itself."""

    name: str
    address: str = ""
    zone: datetime.tzinfo = datetime.UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBack:
    """What a refund or reversal returned, in minor units, and what is left of the payment after it.

    Attributes:
        earlier_minor: what others returned before it; 0 also where nobody has more than the payment's own entries.
    """

    currency: str
    cash_minor: int
    card_minor: int
    stated_minor: int = 0
    voucher_minor: int = 0
    left_minor: int = 0
    earlier_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OfSale:
    """Which part of a sale this is.

    Attributes:
        key: of the first part, as text.
        number: from 1; None where nobody has more than this part's own entries.
        covers_minor: what this part pays of the sale, without its tip.
        paid_minor, total_minor: of the whole sale, where it is known.
    """

    key: str
    covers_minor: int
    number: int | None = None
    paid_minor: int | None = None
    total_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """The facts of one payment.

    Attributes:
        key: the payment's key as text.
        terminal: who caused the newest entry.
        sale: None where no sale ever came.
        entry_seq, entry_hash, time_ms: of the newest entry about the payment.
        proven: what the entries of a link tell by themselves; the standing may rest on others.
        captured_minor: what a capture took of what was held; None where nothing was captured later.
        personal: opened values by name, in the order they are printed.
        of_sale: where it is a part of a sale.
    """

    key: str
    standing: Standing
    proven: Standing
    terminal: str
    sale: entries.SaleFacts | None
    given_back: GivenBack | None
    entry_seq: int
    entry_hash: EntryHash
    time_ms: int
    personal: tuple[tuple[str, str], ...] = ()
    captured_minor: int | None = None
    of_sale: OfSale | None = None


def read_slip(
    found: Sequence[Entry],
    disclosures: Iterable[Disclosure] = (),
    stands: StandingPayment | None = None,
    in_parts: SaleInParts | None = None,
) -> Slip:
    """The slip of a payment from its entries: at least the first and the newest, in the order of the log.

    Args:
        stands: what the ledger's tables say after all of its entries; None where nobody has more than `found`.
        in_parts: the same of its sale, where that is paid in parts.
    Raises:
        Rejected: `slip_not_of_a_payment`: the entries are not about one payment.
    """
    newest = found[-1] if found else None
    sold = next((sale for entry in found if (sale := _sale(entry)) is not None), None)
    if newest is None or len({payment_of(entry) for entry in found}) != 1:
        raise Rejected("slip_not_of_a_payment", "expected the entries of one payment")
    opened = {disclosure.name: disclosure.value for disclosure in disclosures}
    return Slip(
        key=str(uuid.UUID(bytes=payment_of(newest))),
        standing=_told_by(found) if stands is None else _STANDING[stands.recorded.state],
        proven=_told_by((found[0], newest)),
        terminal=entries.terminal_of(newest.actor),
        sale=sold,
        given_back=_given_back(newest, stands),
        entry_seq=newest.seq,
        entry_hash=entry_hash(newest.encoded),
        time_ms=newest.time_ms,
        captured_minor=_captured(found) if stands is None else _charged_later(stands, sold),
        personal=tuple([(name, opened[name].decode()) for name in _PERSONAL if name in opened]),
        of_sale=_of_sale(payment_of(newest), sold, _captured(found)) if in_parts is None else _known(newest, in_parts),
    )


def _known(newest: Entry, sale: SaleInParts) -> OfSale:
    own = uuid.UUID(bytes=payment_of(newest))
    number, part = next((at, part) for at, part in enumerate(sale.parts, 1) if part.key.value == own)
    return OfSale(
        key=str(sale.key),
        number=number,
        covers_minor=part.covers_minor,
        paid_minor=sale.paid_minor,
        total_minor=sale.total_minor,
    )


def _of_sale(payment: bytes, sale: entries.SaleFacts | None, took_minor: int | None) -> OfSale | None:
    """What the part's own entries tell."""
    if sale is None or not is_in_parts(sale):
        return None
    covers = sale.total - sale.remaining if took_minor is None else took_minor
    first = sale.part_of is None
    return OfSale(
        key=str(uuid.UUID(bytes=sale.part_of or payment)),
        covers_minor=covers,
        number=1 if first else None,
        total_minor=sale.total if first else None,
    )


def is_told_by_link(slip: Slip, found: Sequence[Entry]) -> bool:
    """Whether whoever follows a link reads the standing of `slip` from the entries that it holds (`link.py`)."""
    if slip.proven is not slip.standing:
        return False
    newest = found[-1]
    if newest.kind != entries.OUTCOME:
        return True
    # What came of a capture or a refused refund hangs on more entries. Files of older boxes lack the intent.
    is_read = _body(newest, entries.OutcomeEntry).kind in _READ_BY_LINK
    return is_read and answered_by(newest) in {entry_hash(entry.encoded) for entry in found}


def _told_by(found: Sequence[Entry]) -> Standing:
    """What these entries prove, should there be no others between."""
    standing = _standing(found[-1])
    if standing is Standing.NOT_GIVEN_BACK and any(entry.kind == entries.REFUND for entry in found):
        standing = Standing.PARTLY_REFUNDED
    return Standing.CHECKING if standing in _KEEPS_MONEY and _is_wanted_back(found) else standing


def _is_wanted_back(found: Sequence[Entry]) -> bool:
    """Whether a reversal was asked for whose end is still to come."""
    is_wanted = False
    for entry in found:
        if entry.kind == entries.REVERSAL_WANTED:
            is_wanted = True
        elif entry.kind == entries.OUTCOME:
            outcome = _body(entry, entries.OutcomeEntry)
            is_wanted &= (outcome.kind, outcome.state) not in _REFUSED_REVERSALS
    return is_wanted


def _standing(newest: Entry) -> Standing:
    match newest.kind:
        case entries.SALE:
            return Standing.PAID
        case entries.OUTCOME:
            outcome = _body(newest, entries.OutcomeEntry)
            after = STATE_AFTER[OperationKind(outcome.kind), OperationState(outcome.state)]
            return Standing.NOT_GIVEN_BACK if after is None else _STANDING[after]
        case entries.REFUND:
            return _STANDING[state_after_refund(_body(newest, entries.UndoEntry))]
        case entries.REVERSAL:
            return Standing.REVERSED
        case entries.TOMBSTONE:
            return Standing.CANCELLED
        case entries.INTENT if _body(newest, entries.IntentEntry).operation.kind == OperationKind.FORWARD:
            return Standing.ACCEPTED_OFFLINE
        case _:
            return Standing.CHECKING  # an intent, or a reversal that waits for an outcome


def _given_back(newest: Entry, stands: StandingPayment | None) -> GivenBack | None:
    if newest.kind not in (entries.REFUND, entries.REVERSAL):
        return None
    undo = _body(newest, entries.UndoEntry)
    return GivenBack(
        currency=undo.currency,
        cash_minor=undo.cash,
        card_minor=undo.card,
        stated_minor=undo.stated,
        voucher_minor=undo.voucher,
        left_minor=undo.left,
        earlier_minor=0 if stands is None else stands.recorded.refunded_minor - given_minor(undo),
    )


def _captured(found: Sequence[Entry]) -> int | None:
    outcomes = [_body(entry, entries.OutcomeEntry) for entry in found if entry.kind == entries.OUTCOME]
    return next((outcome.amount for outcome in outcomes if outcome.amount is not None), None)


def _charged_later(stands: StandingPayment, sale: entries.SaleFacts | None) -> int | None:
    """Only a card alone is captured later, or takes less: all that was ever kept of the payment is what it took."""
    if sale is None or (sale.capture == "at_once" and sale.partial == "refused") or not stands.is_complete:
        return None
    return stands.left.cash_minor + stands.left.card_minor + stands.recorded.refunded_minor


def _sale(entry: Entry) -> entries.SaleFacts | None:
    match entry.kind:
        case entries.SALE:
            return _body(entry, entries.SaleEntry).sale
        case entries.INTENT:
            return _body(entry, entries.IntentEntry).sale
        case _:
            return None


def payment_of(entry: Entry | RecordedEntry) -> bytes:
    """The key of the payment that `entry` is about, 16 bytes. Raises Rejected `slip_not_of_a_payment`."""
    match cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX):
        case {"payment": bytes(payment)} if len(payment) == 16:
            return payment
        case {"asked": {"key": bytes(key)}} if entry.kind == entries.SALE and len(key) == 16:
            return key
        case _:
            raise Rejected("slip_not_of_a_payment", f"entry {entry.seq} ({entry.kind}) is about no payment")


def answered_by(newest: Entry) -> bytes | None:
    """SHA-256 of the intent's entry that `newest` answers; None where it is no outcome. Raises as `payment_of`."""
    return _body(newest, entries.OutcomeEntry).intent if newest.kind == entries.OUTCOME else None


def _body(entry: Entry, shape: type[BodyT]) -> BodyT:
    try:
        return msgspec.convert(cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX), shape)
    except msgspec.ValidationError as fault:
        raise Rejected("slip_not_of_a_payment", f"entry {entry.seq} is no {entry.kind}: {fault}") from fault

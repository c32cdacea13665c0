"""Reads of the payment tables: what the ledger already says about a key, a payment, a refund."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.entry import Entry, decode
from appliance.model.ids import ProviderName, ProviderReference, RequestKey, TerminalId
from appliance.model.invariants import present
from appliance.model.limits import ENTRY_BYTES_MAX
from appliance.model.offline import OFFLINE_LIMIT_EXCEEDED
from appliance.model.operation import FIRST_PROVIDER
from appliance.model.payment import PaymentState, RecordedPayment
from appliance.model.refund import Share
from appliance.payment.entry_body import body_at
from appliance.payment.offline_records import accepted_minor
from appliance.payment.operation_records import exceeded_of, provider_of
from appliance.payment.projection import CANCELLED_PAYLOAD
from appliance.wire import entries

_MAYBE_LOST: Final = (PaymentState.DECLINED_AFTER_HANDOVER, PaymentState.PARTLY_REFUNDED, PaymentState.REFUNDED)
_REVERSALS_DUE: Final = (
    "SELECT key FROM payments WHERE state = 'being_checked' AND reversal IS NOT NULL AND key NOT IN"
    " (SELECT payment FROM operations WHERE state IN ('prepared', 'unknown'))"
    " AND NOT EXISTS (SELECT 1 FROM offline WHERE offline.payment = payments.key AND is_bound)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRequest:
    """What a key was used for.

    Attributes:
        payload: the commitment to the payload (`drafts.py`).
        payment: None for what is about no payment: an act at the till.
    """

    verb: str
    terminal: TerminalId
    payload: bytes
    payment: RequestKey | None
    seq: int

    @property
    def is_tombstone(self) -> bool:
        """The key belongs to a payment that was cancelled before it came."""
        return self.payload == CANCELLED_PAYLOAD


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingPayment:
    """How a payment stands, and what giving it back takes.

    Attributes:
        paid: as tendered, or captured.
        left: what may still be given back; of a card what it was charged, or what was accepted offline.
        vouchers_minor: what was sold with it as vouchers, which are money already.
        is_complete: cash holds, or the card was charged: it was approved at some time.
        held_minor: what the card's bank holds, neither charged nor given up.
        accepted_minor: what was accepted offline and is not known yet.
        reversal: the request after which the payment must not stand, if there is one.
        sold_seq: the entry that holds the sale.
        provider: who moves the part that is not cash.
    """

    recorded: RecordedPayment
    terminal: TerminalId
    paid: Share
    left: Share
    vouchers_minor: int
    is_complete: bool
    held_minor: int
    capture_before_ms: int | None
    reversal: RequestKey | None
    provider_reference: ProviderReference | None
    sold_seq: int
    provider: ProviderName = FIRST_PROVIDER
    accepted_minor: int = 0

    @property
    def beside_lost_minor(self) -> int:
        """What other tenders paid beside a card that its bank declined after the handover; 0 where there is none."""
        is_lost = self.recorded.state in _MAYBE_LOST and not (
            self.is_complete or self.held_minor or self.accepted_minor
        )
        return self.paid.total_minor - self.paid.card_minor if is_lost else 0

    @property
    def tender(self) -> str | None:
        """The tender that is not cash, where it is no card; providers are named like what they take."""
        return None if self.provider == FIRST_PROVIDER else self.provider


def find_request(connection: sqlite3.Connection, key: RequestKey) -> KnownRequest | None:
    """What `key` was used for, if ever."""
    row = connection.execute(
        "SELECT verb, terminal, payload, payment, seq FROM requests WHERE key = ?", (key.octets,)
    ).fetchone()
    if row is None:
        return None
    verb, terminal, payload, payment, seq = row
    about = None if payment is None else _key(payment)
    return KnownRequest(verb=verb, terminal=TerminalId(terminal), payload=payload, payment=about, seq=seq)


def asked_of(entry: Entry) -> entries.Asked | None:
    """The request that `entry` answers; None where it answers none."""
    match cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX):
        case {"asked": {} as asked}:
            return msgspec.convert(asked, entries.Asked)
        case _:
            return None


def committed_names(connection: sqlite3.Connection, seq: int) -> frozenset[str] | None:
    """Names of the values that the request's entry `seq` commits to; None when its body was pruned."""
    row = connection.execute("SELECT entry FROM entries WHERE seq = ?", (seq,)).fetchone()
    asked = None if row is None else asked_of(decode(row[0]))
    return None if asked is None else frozenset(asked.commitments)


def find_payment(connection: sqlite3.Connection, key: RequestKey) -> StandingPayment | None:
    """How the payment `key` stands, if it exists (a tombstone does)."""
    row = connection.execute(
        "SELECT terminal, state, currency, total, cash, card, first, last, is_charged, cash_back, card_back, held,"
        " capture_before, reversal, reference, code, stated, stated_back,"
        " voucher, voucher_back, vouchers FROM payments WHERE key = ?",
        (key.octets,),
    ).fetchone()
    if row is None:
        return None
    terminal, state, currency, total, cash, card, first, last, is_charged, cash_back, card_back = row[:11]
    held, capture_before, reversal, reference, code, stated, stated_back = row[11:18]
    voucher, voucher_back, vouchers = row[18:]
    is_complete = bool(is_charged) or card == 0
    accepted = 0 if is_complete else accepted_minor(connection, key)
    return StandingPayment(
        recorded=RecordedPayment(
            key=key,
            state=PaymentState(state),
            entry_seqs=_proving(connection, first, last),
            total_minor=total,
            currency=currency,
            code=code,
            refunded_minor=cash_back + card_back + stated_back + voucher_back,
            capture_before_ms=capture_before if state == PaymentState.AUTHORISED else None,
            offline=exceeded_of(connection, key) if code == OFFLINE_LIMIT_EXCEEDED else None,
        ),
        terminal=TerminalId(terminal),
        paid=Share(cash_minor=cash, card_minor=card, stated_minor=stated, voucher_minor=voucher),
        left=Share(
            cash_minor=cash - cash_back,
            card_minor=card - card_back if is_complete or accepted else 0,
            stated_minor=stated - stated_back,
            voucher_minor=voucher - voucher_back,
        ),
        vouchers_minor=vouchers,
        is_complete=is_complete,
        held_minor=held,
        accepted_minor=accepted,
        capture_before_ms=capture_before,
        reversal=None if reversal is None else _key(reversal),
        provider_reference=None if reference is None else ProviderReference(reference),
        sold_seq=first,
        provider=provider_of(connection, key) if card else FIRST_PROVIDER,
    )


def find_refund(connection: sqlite3.Connection, key: RequestKey) -> RecordedPayment | None:
    """The result of the refund `key`: of this request alone, whatever later refunds did."""
    row = connection.execute(
        "SELECT r.payment, r.state, r.amount, r.back, r.last, r.code, p.first, p.total, p.currency"
        " FROM refunds r JOIN payments p ON p.key = r.payment WHERE r.key = ?",
        (key.octets,),
    ).fetchone()
    if row is None:
        return None
    payment, state, amount, back, last, code, sold, total, currency = row
    return RecordedPayment(
        key=_key(payment),
        state=PaymentState(state),
        entry_seqs=_proving(connection, sold, last),
        total_minor=total,
        currency=currency,
        code=code,
        refunded_minor=back,
        given_minor=amount if state != PaymentState.CHECKING and code is None else 0,
    )


def refund_facts(connection: sqlite3.Connection, key: RequestKey) -> entries.RefundFacts:
    """What the refund `key` gives when its operation is confirmed, as its first intent fixed it."""
    (first,) = connection.execute("SELECT first FROM refunds WHERE key = ?", (key.octets,)).fetchone()
    return present(body_at(connection, first, entries.IntentEntry).refund, "a refund's first intent says what it gives")


def returned_lines(connection: sqlite3.Connection, payment: RequestKey) -> dict[int, int]:
    """How much of each line of its sale went back, in thousandths, by the line's place; `payment` has the lines."""
    asked = "SELECT line, quantity FROM refunded_lines WHERE payment = ?"
    return dict(connection.execute(asked, (payment.octets,)).fetchall())


def sale_facts(connection: sqlite3.Connection, standing: StandingPayment) -> entries.SaleFacts:
    """The sale as it stands in the ledger. Raises Rejected `sale_pruned`."""
    if not standing.paid.card_minor:
        return body_at(connection, standing.sold_seq, entries.SaleEntry).sale
    return present(
        body_at(connection, standing.sold_seq, entries.IntentEntry).sale, "a payment's first intent holds its sale"
    )


def _proving(connection: sqlite3.Connection, first: int, last: int) -> tuple[int, ...]:
    """The entries of a receipt: the sale, the newest, and of an outcome the intent that it answers."""
    row = connection.execute("SELECT entry FROM entries WHERE seq = ? AND kind = ?", (last, entries.OUTCOME)).fetchone()
    if row is None:
        return tuple(sorted({first, last}))
    # Not always the sale's: an offer is taken up by a later intent, and a forward, capture or refund has its own.
    outcome = msgspec.convert(cbor.decode_ours(decode(row[0]).body), entries.OutcomeEntry)
    (asked,) = connection.execute("SELECT intent FROM operations WHERE id = ?", (outcome.operation,)).fetchone()
    return tuple(sorted({first, asked, last}))


def sold_by(connection: sqlite3.Connection, terminal: TerminalId, keys: Sequence[str]) -> frozenset[str]:
    """Which of the payments `keys` (text) this terminal sold."""
    asked = "SELECT 1 FROM payments WHERE key = ? AND terminal = ?"
    return frozenset(key for key in keys if connection.execute(asked, (uuid.UUID(key).bytes, terminal)).fetchone())


def first_entry_ms(connection: sqlite3.Connection) -> int:
    """What the box's clock said when the oldest entry was written."""
    (encoded,) = connection.execute("SELECT entry FROM entries ORDER BY seq LIMIT 1").fetchone()
    return decode(encoded).time_ms


def reversals_due(connection: sqlite3.Connection, limit: int) -> tuple[RequestKey, ...]:
    """Payments that stand although their reversal was asked for, and that nothing reverses yet.

    What was accepted offline and cannot be withdrawn waits for its bank's word first.
    """
    rows = connection.execute(f"{_REVERSALS_DUE} ORDER BY first LIMIT ?", (limit,)).fetchall()
    return tuple(_key(key) for (key,) in rows)


def due_reversal(connection: sqlite3.Connection, payment: RequestKey) -> StandingPayment | None:
    """How `payment` stands, if it is one of those."""
    is_due = connection.execute(f"{_REVERSALS_DUE} AND key = ?", (payment.octets,)).fetchone() is not None
    return find_payment(connection, payment) if is_due else None


def held_until(connection: sqlite3.Connection, before_ms: int, limit: int) -> tuple[tuple[RequestKey, int], ...]:
    """Authorised payments whose time to be captured ends at `before_ms` or earlier, with that time; the first first."""
    rows = connection.execute(
        "SELECT key, capture_before FROM payments WHERE state = 'authorised' AND capture_before <= ?"
        " ORDER BY capture_before LIMIT ?",
        (before_ms, limit),
    ).fetchall()
    return tuple((_key(key), capture_before) for key, capture_before in rows)


def entry_hash_at(connection: sqlite3.Connection, seq: int) -> bytes:
    """SHA-256 of the entry `seq`, which must exist."""
    (entry,) = connection.execute("SELECT entry FROM entries WHERE seq = ?", (seq,)).fetchone()
    return hashlib.sha256(entry).digest()


def _key(octets: bytes) -> RequestKey:
    return RequestKey(uuid.UUID(bytes=octets))

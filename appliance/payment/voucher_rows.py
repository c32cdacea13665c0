"""Tables of vouchers, derived from entries alone: what each is worth still, and which payment took what of it.

What a payment takes is gone from the voucher when the entry that holds the sale is written: before a card beside it is
asked. It comes back when that card is declined or proven not charged, and with refunds and reversals.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.ledger.draft import RecordedEntry
from appliance.ledger.guard import KeysUnused
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure
from appliance.model.money import Money
from appliance.model.operation import SALES, OperationKind, OperationState
from appliance.model.voucher import VoucherId
from appliance.payment.entry_body import body_of
from appliance.wire import entries, till_entries

_FIND: Final = "SELECT amount, currency, remaining, expires, is_void, payment FROM vouchers WHERE id = ?"
_MOVE: Final = "UPDATE vouchers SET remaining = remaining + ? WHERE id = ?"
_ENDED: Final = (OperationState.REJECTED, OperationState.ABSENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingVoucher:
    """How a voucher stands; `payment` is the sale that it was sold with, None when it was given."""

    amount_minor: int
    currency: str
    left_minor: int
    expires_ms: int | None
    is_void: bool
    payment: bytes | None

    def has_expired(self, now_ms: int) -> bool:
        return self.expires_ms is not None and self.expires_ms <= now_ms


class VoucherProjection:
    """Keeps the tables in step with the log, in the writer's transaction."""

    name: Final = "voucher"
    tables: Final = ("vouchers", "voucher_uses")
    schema: Final = (
        # expires: Unix ms, null when it never does. payment: the sale that it was sold with.
        "CREATE TABLE vouchers (id BLOB PRIMARY KEY, amount INTEGER NOT NULL, currency TEXT NOT NULL,"
        " remaining INTEGER NOT NULL CHECK (remaining BETWEEN 0 AND amount), expires INTEGER,"
        " is_void INTEGER NOT NULL DEFAULT 0, payment BLOB, seq INTEGER NOT NULL) WITHOUT ROWID",
        # back: given back of it. place: of the tender in its sale.
        "CREATE TABLE voucher_uses (payment BLOB NOT NULL, place INTEGER NOT NULL, voucher BLOB NOT NULL,"
        " amount INTEGER NOT NULL, back INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (payment, place)) WITHOUT ROWID",
    )
    kinds: Final = frozenset(
        {
            till_entries.VOUCHER_ISSUED,
            till_entries.VOUCHER_VOIDED,
            entries.SALE,
            entries.INTENT,
            entries.OUTCOME,
            entries.REFUND,
            entries.REVERSAL,
        }
    )

    def apply(self, connection: sqlite3.Connection, recorded: Sequence[RecordedEntry]) -> None:
        """Fold `recorded` into the tables, in order."""
        for entry in recorded:
            match entry.kind:
                case entries.SALE:
                    sold = body_of(entry, entries.SaleEntry)
                    _take(connection, sold.asked.key, sold.sale)
                case entries.INTENT:
                    intent = body_of(entry, entries.IntentEntry)
                    if intent.sale is not None:
                        _take(connection, intent.payment, intent.sale)
                case entries.OUTCOME:
                    outcome = body_of(entry, entries.OutcomeEntry)
                    if OperationKind(outcome.kind) in SALES and OperationState(outcome.state) in _ENDED:
                        _put_back(connection, outcome.payment, None)
                case entries.REFUND | entries.REVERSAL:
                    undo = body_of(entry, entries.UndoEntry)
                    _put_back(connection, undo.payment, undo.voucher)
                case till_entries.VOUCHER_ISSUED:
                    _issue(connection, entry)
                case _:
                    voided = body_of(entry, till_entries.VoucherVoidedEntry)
                    connection.execute("UPDATE vouchers SET remaining = 0, is_void = 1 WHERE id = ?", (voided.voucher,))


@dataclass(frozen=True, slots=True, kw_only=True)
class VouchersCover:
    """The key is fresh, and each voucher is worth what the sale takes of it: of two sales that spend one, one wins.

    Attributes:
        uses: vouchers with what is taken of them.
    """

    fresh: KeysUnused
    uses: tuple[tuple[VoucherId, int], ...]
    currency: str
    now_ms: int

    def check(self, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)
        taken: dict[VoucherId, int] = {}
        for voucher, amount in self.uses:
            taken[voucher] = taken.get(voucher, 0) + amount
        for voucher, amount in taken.items():
            _require_worth(require_voucher(connection, voucher), Money(amount, self.currency), self.now_ms)


def require_voucher(connection: sqlite3.Connection, voucher: VoucherId) -> StandingVoucher:
    """How the voucher stands. Raises Rejected `voucher_unknown`."""
    row = connection.execute(_FIND, (voucher,)).fetchone()
    if row is None:
        raise Rejected("voucher_unknown", "this box issued no voucher with this code")
    amount, currency, remaining, expires, is_void, payment = row
    return StandingVoucher(
        amount_minor=amount,
        currency=currency,
        left_minor=remaining,
        expires_ms=expires,
        is_void=bool(is_void),
        payment=payment,
    )


def _require_worth(standing: StandingVoucher, taken: Money, now_ms: int) -> None:
    left = Money(standing.left_minor, standing.currency)
    if taken.currency != left.currency:  # the shop changed its currency: there is no rate at which this would be right
        raise Rejected("voucher_currency", f"the voucher is worth {left}, the sale is in {taken.currency}")
    if standing.is_void:
        raise Rejected("voucher_void", "the voucher was taken back by the shop")
    if standing.has_expired(now_ms):
        raise Rejected("voucher_expired", f"the voucher was good until {standing.expires_ms}, now it is {now_ms}")
    if not standing.left_minor:
        raise Rejected("voucher_spent", "the voucher was spent before, nothing is left of it: it is not spent twice")
    if taken.amount_minor > left.amount_minor:
        raise Rejected("voucher_short", f"expected at most {left}, which is what is left of the voucher")


def _issue(connection: sqlite3.Connection, entry: RecordedEntry) -> None:
    body = body_of(entry, till_entries.VoucherIssuedEntry)
    connection.execute(
        "INSERT INTO vouchers (id, amount, currency, remaining, expires, payment, seq) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (body.voucher, body.amount, body.currency, body.amount, body.expires, body.payment, entry.seq),
    )


def _take(connection: sqlite3.Connection, payment: bytes, sale: entries.SaleFacts) -> None:
    for place, tender in enumerate(sale.tenders):
        if tender.kind == "voucher":
            voucher = bytes.fromhex(tender.source or "")
            connection.execute(_MOVE, (-tender.amount_minor, voucher))
            connection.execute(
                "INSERT INTO voucher_uses (payment, place, voucher, amount) VALUES (?, ?, ?, ?)",
                (payment, place, voucher, tender.amount_minor),
            )


def _put_back(connection: sqlite3.Connection, payment: bytes, amount: int | None) -> None:
    """So much of what the payment took, the last tender first; None for all of it."""
    if amount == 0:
        return
    rows = connection.execute(
        "SELECT place, voucher, amount - back FROM voucher_uses WHERE payment = ? AND back < amount"
        " ORDER BY place DESC",
        (payment,),
    ).fetchall()
    rest = sum(row[2] for row in rows) if amount is None else amount
    for place, voucher, taken in rows:
        back = min(rest, taken)
        rest -= back
        connection.execute(_MOVE, (back, voucher))
        connection.execute(
            "UPDATE voucher_uses SET back = back + ? WHERE payment = ? AND place = ?", (back, payment, place)
        )
    ensure(rest == 0, "a payment gives no more back to vouchers than it took from them")

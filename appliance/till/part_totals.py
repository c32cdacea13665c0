"""What sales that are paid in parts add to the totals of the till, derived from entries alone.

* What a part takes is in the drawer, or with a provider, at once: it counts as taken, and as money for sales that are
  not complete (`parts_taken`). The sale itself, with its lines and taxes, counts once: when its parts cover it, at the
  till that completed it, and all its money leaves that account again (`parts_sold`).
* A part that is reversed returns its money from that account (`parts_returned`), and opens a sale that was complete.
* A card that its bank declined after the handover covers nothing of a sale that is not counted yet; one that is counted
  stays so, and the loss is told by itself.
* A sale that was given up, or that refunds gave back of, stays as it was counted: what goes back of what was counted is
  a reversal or refund as of any other sale.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from appliance.model.limits import INCOMPLETE_LISTED_MAX
from appliance.model.till import Scope, Sums, What, added, minus
from appliance.till.tally import decode_sums, encode_sums, sold_sums, taken_sums, undo_sums
from appliance.wire.entries import SaleFacts, UndoEntry
from appliance.wire.till_entries import IncompleteFacts

TABLES: Final = ("till_sales", "till_parts")
SCHEMA: Final = (
    # key: of the first part; since: its entry. sums: what the sale counts without tenders; counted: what it does count.
    "CREATE TABLE till_sales (key BLOB PRIMARY KEY, total INTEGER NOT NULL, sums BLOB NOT NULL, counted BLOB,"
    " is_frozen INTEGER NOT NULL DEFAULT 0, terminal TEXT NOT NULL, drawer TEXT NOT NULL, since INTEGER NOT NULL)"
    " WITHOUT ROWID",
    # paid: what it takes, with tip and rounding. lost: of that, what its bank declined after the handover. stands: it
    # took that. is_counted: the sale counts it.
    "CREATE TABLE till_parts (payment BLOB PRIMARY KEY, sale BLOB NOT NULL, covers INTEGER NOT NULL,"
    " paid INTEGER NOT NULL, tip INTEGER NOT NULL, rounding INTEGER NOT NULL, lost INTEGER NOT NULL DEFAULT 0,"
    " stands INTEGER NOT NULL DEFAULT 0, is_counted INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    "CREATE INDEX till_parts_of ON till_parts (sale)",
    "CREATE INDEX till_sales_incomplete ON till_sales (since) WHERE counted IS NULL",
)
# Of a part whose card was lost all that it keeps is for the goods, nothing for a tip or rounding.
_SUMMED: Final = (
    "SELECT coalesce(sum(CASE WHEN lost THEN min(covers, paid - lost) ELSE covers END), 0),"
    " sum(CASE WHEN lost THEN paid - lost - min(covers, paid - lost) ELSE tip END),"
    " sum(CASE WHEN lost THEN 0 ELSE rounding END), sum(paid - lost), coalesce(sum(covers), 0) FROM till_parts"
)
_INCOMPLETE: Final = (
    "SELECT s.key, sum(p.paid - p.lost),"
    " s.total - sum(CASE WHEN p.lost THEN min(p.covers, p.paid - p.lost) ELSE p.covers END),"
    " s.terminal, s.since, s.is_frozen"
    " FROM till_sales s JOIN till_parts p ON p.sale = s.key AND p.stands AND p.paid > p.lost WHERE s.counted IS NULL"
)
_COUNT: Final = "SELECT count(*) FROM"
_WHERE: Final = {Scope.DRAWER: " AND s.drawer = ?", Scope.TERMINAL: " AND s.terminal = ?", Scope.SHOP: " AND '' = ?"}


def begin(connection: sqlite3.Connection, seq: int, place: tuple[str, str], payment: bytes, sale: SaleFacts) -> Sums:
    """A part of a sale begins at `place` (terminal, drawer); what it adds once it stands."""
    if sale.part_of is None:
        connection.execute(
            "INSERT INTO till_sales (key, total, sums, terminal, drawer, since) VALUES (?, ?, ?, ?, ?, ?)",
            (payment, sale.total, encode_sums(sold_sums(sale)), *place, seq),
        )
    covers = sale.total - sale.remaining
    paid = covers + sale.tip + sale.rounding
    connection.execute(
        "INSERT INTO till_parts (payment, sale, covers, paid, tip, rounding) VALUES (?, ?, ?, ?, ?, ?)",
        (payment, sale.part_of or payment, covers, paid, sale.tip, sale.rounding),
    )
    return {**taken_sums(sale), What.PARTS_TAKEN: paid}


def stand(connection: sqlite3.Connection, payment: bytes, took_minor: int | None) -> Sums:
    """The payment took its money: what its sale counts because of that; nothing where it is no part of one.

    Args:
        took_minor: what a card took, where that is less than it was asked for.
    """
    sale = _sale_of(connection, payment)
    if sale is None:
        return {}
    if took_minor is not None:
        connection.execute("UPDATE till_parts SET covers = ?1, paid = ?1 WHERE payment = ?2", (took_minor, payment))
    connection.execute("UPDATE till_parts SET stands = 1 WHERE payment = ?", (payment,))
    return _recounted(connection, sale)


def lose(connection: sqlite3.Connection, payment: bytes, amount: int) -> Sums:
    """The payment's card was declined after the handover. A sale that counts goes on counting: its goods are gone."""
    sale = _sale_of(connection, payment)
    if sale is None:
        return {}
    connection.execute("UPDATE till_parts SET lost = ? WHERE payment = ?", (amount, payment))
    return _recounted(connection, sale)


def undo(connection: sqlite3.Connection, body: UndoEntry, *, is_refund: bool) -> Sums | None:
    """What giving `body` back adds; None: its payment is no part of a sale."""
    row = connection.execute(
        "SELECT p.sale, p.is_counted, s.is_frozen FROM till_parts p JOIN till_sales s ON s.key = p.sale"
        " WHERE p.payment = ?",
        (body.payment,),
    ).fetchone()
    if row is None:
        return None
    sale, is_counted, is_frozen = row
    sums = undo_sums(body, is_refund=is_refund)
    if is_refund:
        freeze(connection, sale)
    if is_counted and (is_frozen or is_refund):
        return sums
    if not is_refund:
        connection.execute("UPDATE till_parts SET stands = 0 WHERE payment = ?", (body.payment,))
    return added((_from_parts(sums), _recounted(connection, sale)))


def freeze(connection: sqlite3.Connection, sale: bytes) -> None:
    """It was given up, or refunds gave back of it: what it counts does not change any more."""
    connection.execute("UPDATE till_sales SET is_frozen = 1 WHERE key = ?", (sale,))


def read_incomplete(connection: sqlite3.Connection, scope: Scope, name: str) -> tuple[int, tuple[IncompleteFacts, ...]]:
    """How many sales keep money and are not complete, and the oldest of them."""
    found = f"{_INCOMPLETE}{_WHERE[scope]} GROUP BY s.key"
    (count,) = connection.execute(f"{_COUNT} ({found})", (name,)).fetchone()
    rows = connection.execute(f"{found} ORDER BY s.since LIMIT ?", (name, INCOMPLETE_LISTED_MAX))
    names = ("sale", "paid", "remaining", "terminal", "since", "closed")
    return int(count), tuple(IncompleteFacts(**dict(zip(names, row, strict=True))) for row in rows)


def _recounted(connection: sqlite3.Connection, sale: bytes) -> Sums:
    """Count the sale when its parts cover it, and no longer when they do not; what that adds."""
    total, sums, is_frozen, counted = connection.execute(
        "SELECT total, sums, is_frozen, counted FROM till_sales WHERE key = ?", (sale,)
    ).fetchone()
    covered, tips, rounding, paid, with_lost = connection.execute(
        f"{_SUMMED} WHERE sale = ? AND stands", (sale,)
    ).fetchone()
    is_gone = counted is not None and covered < total <= with_lost
    if is_frozen or covered > total or is_gone:
        return {}  # above the total: of two tries of one part one goes back, and until then the first one counts
    now: Sums = {}
    if covered == total:
        own = {What.TIPS: tips, What.ROUNDING: rounding, What.PARTS_SOLD: paid}
        now = added((decode_sums(sums), {what: minor for what, minor in own.items() if minor}))
    is_counted = bool(now)
    connection.execute("UPDATE till_parts SET is_counted = stands AND ? WHERE sale = ?", (is_counted, sale))
    connection.execute(
        "UPDATE till_sales SET counted = ? WHERE key = ?", (encode_sums(now) if is_counted else None, sale)
    )
    return _difference(now, {} if counted is None else decode_sums(counted))


def _difference(now: Sums, before: Sums) -> Sums:
    return minus({**dict.fromkeys(before, 0), **now}, before)


def _from_parts(sums: Sums) -> Sums:
    """Money that goes back of what no sale counts: neither a refund nor a reversal of one."""
    given = sums.pop(What.REFUNDED, 0) + sums.pop(What.REVERSED, 0)
    kept = {key: minor for key, minor in sums.items() if key.startswith(What.RETURNED) or key == What.CASH_REFUNDS}
    return {**kept, What.PARTS_RETURNED: given}


def _sale_of(connection: sqlite3.Connection, payment: bytes) -> bytes | None:
    row = connection.execute("SELECT sale FROM till_parts WHERE payment = ?", (payment,)).fetchone()
    return None if row is None else bytes(row[0])

"""Reads sales that are paid in parts, and the conditions under which a part may come.

The guards run in the writer's transaction: of two tills that pay the last part, one wins.
"""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass, replace

from appliance.ledger.guard import KeysUnused
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.model.limits import PARTS_MAX
from appliance.model.parts import SaleInParts, SalePart
from appliance.model.payment import PaymentState, RecordedPayment, ValidPayment
from appliance.payment import part_rows
from appliance.payment.guards import PAYMENT_CHANGED, require_payment
from appliance.payment.records import find_payment, find_request, returned_lines
from appliance.payment.retry_rows import tries_of_sale, with_earlier


def find_sale(connection: sqlite3.Connection, payment: RequestKey) -> SaleInParts | None:
    """The sale in parts that `payment` pays; None: it pays a sale alone, or is no payment."""
    key = part_rows.sale_of(connection, payment.octets)
    row = connection.execute("SELECT total, closed, is_refunded FROM sales_in_parts WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    total, closed, is_refunded = row
    parts = connection.execute("SELECT payment, covers FROM sale_parts WHERE sale = ? ORDER BY seq", (key,)).fetchall()
    return SaleInParts(
        key=_key(key),
        total_minor=total,
        closed_by=None if closed is None else _key(closed),
        is_refunded=bool(is_refunded),
        parts=tuple(_part(connection, _key(part), covers) for part, covers in parts),
    )


def as_told(connection: sqlite3.Connection, recorded: RecordedPayment) -> RecordedPayment:
    """`recorded` with how its sale stands. A sale that was given up is being checked until every part went back."""
    sale = find_sale(connection, recorded.key)
    if sale is None:
        return recorded
    told = replace(recorded, sale=sale)
    given_up = None if sale.closed_by is None else find_request(connection, sale.closed_by)
    if given_up is None or given_up.verb != "reversal" or sale.key != recorded.key:
        return told
    if not any(part.is_going_back for part in sale.parts):
        return told
    return replace(told, state=PaymentState.CHECKING, entry_seqs=(recorded.entry_seqs[0], given_up.seq))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAllowed:
    """The payment fits into its sale; and what it tries again belongs to the same sale, or to none in parts.

    A first part that is tried again outside of its sale takes the whole sale with it: none of it may be paid otherwise.
    """

    valid: ValidPayment

    def check(self, connection: sqlite3.Connection) -> None:
        part_of = self.valid.sale.part_of
        sale = None if part_of is None else _open_sale(connection, part_of)
        earlier = with_earlier(connection, self.valid.retry_of)
        for key in earlier:
            other = find_sale(connection, key)
            if sale is None and other is not None:
                _require_alone(other, key)
            elif sale is not None and (other is None or other.key != sale.key) and _may_stand(connection, key):
                raise Rejected("retry_of_another_sale", f"payment {key} is no part of sale {sale.key}")
        # A try that this one does not name may have failed as a first part, and other parts may pay its sale.
        for key in tries_of_sale(connection, self.valid.retry_of):
            if key not in earlier and key != part_of and _has_other_parts(connection, key):
                raise Rejected("retry_exists", f"payments of sale {key} may stand in its place; ask for its status")
        if sale is not None:
            self._require_room(connection, sale, earlier)

    def _require_room(self, connection: sqlite3.Connection, sale: SaleInParts, earlier: tuple[RequestKey, ...]) -> None:
        own = {part.key for part in sale.parts}
        # Only a first part's own outcome takes other tries of the whole sale back: no later one may stand beside them.
        for other in tries_of_sale(connection, (sale.key,)):
            if other not in own and (_may_stand(connection, other) or _has_other_parts(connection, other)):
                raise Rejected("retry_exists", f"payment {other} may still stand in the place of the whole sale")
        room, covers = sale.room_minor(earlier), self.valid.sale.covers_minor
        if covers > room:
            raise Rejected(
                "part_above_remaining",
                f"expected at most {max(room, 0)} minor units: of {sale.total_minor} are {sale.paid_minor} paid and"
                f" {sale.remaining_minor - max(room, 0)} on their way; saw {covers}",
            )
        if self.valid.sale.rounding_minor and covers != room:
            raise Rejected("rounding_wrong", "a sale is rounded once, with the cash that completes it")


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleUnchanged:
    """The sale stands exactly as it was looked at; and the key is fresh."""

    sale: SaleInParts
    fresh: KeysUnused

    def check(self, connection: sqlite3.Connection) -> None:
        self.fresh.check(connection)
        if find_sale(connection, self.sale.key) != self.sale:
            raise Rejected(PAYMENT_CHANGED, "the sale changed meanwhile; ask again")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesUnchanged:
    """No line went back since it was looked at, and none is going back by another part of the sale."""

    sale: SaleInParts
    payment: RequestKey
    returned: tuple[tuple[int, int], ...]

    def check(self, connection: sqlite3.Connection) -> None:
        if tuple(sorted(returned_lines(connection, self.sale.key).items())) != self.returned:
            raise Rejected(PAYMENT_CHANGED, "lines went back meanwhile; ask again")
        for part in self.sale.parts:
            standing = require_payment(connection, part.key)
            if part.key != self.payment and standing.recorded.state is PaymentState.CHECKING:
                raise Rejected("payment_open", f"part {part.key} is still being checked; wait for its outcome")


def _open_sale(connection: sqlite3.Connection, key: RequestKey) -> SaleInParts:
    """The sale whose first part is `key`. Raises Rejected."""
    sale = find_sale(connection, key)
    if sale is None:
        standing = require_payment(connection, key)
        if standing.recorded.state is PaymentState.CANCELLED:
            raise Rejected("sale_closed", "the sale was given up before its first part came: begin it anew")
        raise Rejected("sale_not_in_parts", "part_of names a payment that leaves nothing open")
    if sale.key != key:
        raise Rejected("sale_not_in_parts", f"part_of names a later part; the first one is {sale.key}")
    if sale.closed_by is not None or sale.is_refunded:
        raise Rejected("sale_closed", "the sale was given up, or some of it was refunded: nothing is added to it")
    if len(sale.parts) >= PARTS_MAX:
        raise Rejected("too_many_parts", f"a sale has at most {PARTS_MAX} parts, whatever became of each")
    return sale


def _require_alone(sale: SaleInParts, key: RequestKey) -> None:
    """Whoever tries `key` again outside of its sale must not leave parts of it behind."""
    behind = [part for part in sale.parts if part.counts and (part.key != key if key == sale.key else part.key == key)]
    if behind:
        raise Rejected("retry_of_another_sale", f"payment {key} belongs to sale {sale.key}, which has other parts")


def _part(connection: sqlite3.Connection, key: RequestKey, covers: int) -> SalePart:
    standing = require_payment(connection, key)
    beside_lost_minor = standing.beside_lost_minor
    is_paid = standing.is_complete or standing.accepted_minor > 0 or beside_lost_minor > 0  # the goods may go
    return SalePart(
        key=key,
        state=standing.recorded.state,
        covers_minor=min(covers, beside_lost_minor) if beside_lost_minor else covers,
        left_minor=standing.left.total_minor if is_paid else 0,
        is_paid=is_paid,
        is_wanted_back=standing.reversal is not None,
        tries=frozenset(tries_of_sale(connection, (key,))) - {key},
    )


def _may_stand(connection: sqlite3.Connection, key: RequestKey) -> bool:
    return find_payment(connection, key) is not None and _part(connection, key, 0).counts


def _has_other_parts(connection: sqlite3.Connection, first: RequestKey) -> bool:
    """Whether `first` is the first part of a sale of which any part keeps money, or still may."""
    sale = find_sale(connection, first)
    return sale is not None and sale.key == first and any(part.counts for part in sale.parts)


def _key(octets: bytes) -> RequestKey:
    return RequestKey(uuid.UUID(bytes=octets))

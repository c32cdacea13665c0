"""What must hold of sales that are paid in parts: no more than the total is taken, and each sale counts once, when it
is covered.

Owns that part of the verdict, which follows the log from its first entry to its last.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from appliance.model.ids import RequestKey, request_key
from appliance.model.operation import OperationKind, OperationState
from appliance.model.parts import SaleInParts
from appliance.payment.parts import find_sale
from appliance.wire import entries
from tests.world.books import FAILED, LOST, Books
from tests.world.box import WorldBox
from tests.world.invariants import KEPT
from tests.world.ledgered import Ledgered, key_name

_STANDS = KEPT | {"refunded"}


@dataclass(slots=True, kw_only=True)
class PartSale:
    """A sale by the log alone.

    Attributes:
        parts: what each part covers that stands; `paid` what it took, with rounding.
        lost: of a part, what its bank declined after all.
        is_counted: it counts as sold, `counted` the parts in that, for `sold`; `is_frozen`: for good, as it is.
        account: what its parts took and that is neither sold nor given back.
    """

    total: int
    parts: dict[bytes, int] = field(default_factory=dict)
    paid: dict[bytes, int] = field(default_factory=dict)
    lost: dict[bytes, int] = field(default_factory=dict)
    account: int = 0
    sold: int = 0
    counted: frozenset[bytes] = frozenset()
    is_counted: bool = False
    is_frozen: bool = False
    is_given_up: bool = False

    @property
    def keeps(self) -> bool:
        """Some of its parts have money still."""
        return any(self.paid[part] > self.lost.get(part, 0) for part in self.parts)

    def recount(self) -> None:
        """As of now; a counted sale that would be covered but for a loss goes on counting."""
        with_lost = sum(self.parts.values())
        lost = sum(self.lost.get(part, 0) for part in self.parts)
        covered = with_lost - lost
        if self.is_frozen or covered > self.total or (self.is_counted and covered < self.total <= with_lost):
            return
        self.is_counted = covered == self.total
        self.counted = frozenset(self.parts) if self.is_counted else frozenset()
        sold = sum(self.paid[part] for part in self.parts) - lost if self.is_counted else 0
        self.account += self.sold - sold
        self.sold = sold


async def judge_parts(books: Books, held: Ledgered, box: WorldBox, sales: dict[bytes, PartSale]) -> None:
    """Write every violation into the books."""
    assert box.ledger is not None
    for key, sale in sales.items():
        name = books.name(key_name(key))
        own = {
            part: standing
            for part, standing in held.payments.items()
            if part == key_name(key) or (part in books.sales and books.sales[part].part_of == key_name(key))
        }
        covered = sum(standing.total for standing in own.values() if standing.state in _STANDS)
        if covered > sale.total:
            books.violate("doubled", f"of the sale {name}, {sale.total}, {covered} are covered")
        left = sum(each.paid - each.back for each in own.values() if each.state not in {LOST, *FAILED})
        if sale.is_given_up and left:
            books.violate("lost", f"the sale {name} was given up, and keeps {left}")
        if sale.is_given_up:
            continue  # what went back covers nothing any more, whichever way it went
        found = await box.ledger.read(partial(_find, request_key(key_name(key))))
        if found is None or found.is_complete != (covered == sale.total) or found.paid_minor != covered:
            books.violate("lost", f"the sale {name} is {found}, and {covered} of it are covered")
        told = books.in_parts.get(key_name(key))
        is_open = found is not None and found.closed_by is None and not found.is_refunded
        if is_open and told is not None and told.closed == "yes":
            books.violate("lost", f"the sale {name} was told closed, and is open")


def _find(key: RequestKey, connection: sqlite3.Connection) -> SaleInParts | None:
    return find_sale(connection, key)


def follow_parts(held: Ledgered) -> tuple[dict[bytes, PartSale], dict[bytes, bytes]]:
    """Every sale that was ever paid in parts, and which sale each part belongs to."""
    sales: dict[bytes, PartSale] = {}
    sale_of: dict[bytes, bytes] = {}
    waits: dict[bytes, tuple[int, int]] = {}
    cards: dict[bytes, int] = {}
    for entry, body in held.log:
        match entry.kind:
            case entries.SALE:
                payment = body["asked"]["key"]
                _begin(payment, body["sale"], sales, sale_of, waits)
                _stand(payment, None, sales, sale_of, waits)
            case entries.INTENT if body.get("sale"):
                cards[body["payment"]] = body["operation"]["amount"]
                _begin(body["payment"], body["sale"], sales, sale_of, waits)
            case entries.OUTCOME if body["kind"] == OperationKind.AUTHORISE and body["state"] in (
                OperationState.CONFIRMED,
                OperationState.ACCEPTED,
            ):
                _stand(body["payment"], body.get("amount"), sales, sale_of, waits)
            case entries.OUTCOME if (body["kind"], body["state"]) == (OperationKind.FORWARD, OperationState.REJECTED):
                _lose(body["payment"], cards[body["payment"]], sales, sale_of)
            case entries.REFUND | entries.REVERSAL if body["payment"] in sale_of:
                _undo(body, sales[sale_of[body["payment"]]], is_refund=entry.kind == entries.REFUND)
            case entries.SALE_GIVEN_UP:
                sale = sales[body["payment"]]
                sale.is_frozen = sale.is_given_up = True
            case _:
                pass
    return sales, sale_of


def _begin(
    payment: bytes,
    facts: dict[str, Any],
    sales: dict[bytes, PartSale],
    sale_of: dict[bytes, bytes],
    waits: dict[bytes, tuple[int, int]],
) -> None:
    first, remaining = facts.get("part_of"), facts.get("remaining", 0)
    if first is None and not remaining and facts.get("partial", "refused") == "refused":
        return
    if first is None:
        sales[payment] = PartSale(total=facts["total"])
    sale_of[payment] = first or payment
    covers = facts["total"] - remaining
    waits[payment] = covers, covers + facts.get("tip", 0) + facts.get("rounding", 0)


def _stand(
    payment: bytes,
    took: int | None,
    sales: dict[bytes, PartSale],
    sale_of: dict[bytes, bytes],
    waits: dict[bytes, tuple[int, int]],
) -> None:
    if payment in sale_of:
        sale = sales[sale_of[payment]]
        sale.parts[payment], sale.paid[payment] = waits[payment] if took is None else (took, took)
        sale.account += sale.paid[payment]
        sale.recount()


def _lose(payment: bytes, amount: int, sales: dict[bytes, PartSale], sale_of: dict[bytes, bytes]) -> None:
    """The bank said no after all: what was sold stays sold, and what was not complete is not covered by this."""
    if payment in sale_of:
        sale = sales[sale_of[payment]]
        sale.lost[payment] = amount
        sale.recount()


def _undo(body: dict[str, Any], sale: PartSale, *, is_refund: bool) -> None:
    if body["payment"] in sale.counted and (sale.is_frozen or is_refund):
        sale.is_frozen = True
        return
    sale.account -= body.get("cash", 0) + body.get("card", 0)
    if is_refund:
        sale.is_frozen = True
    else:
        sale.parts.pop(body["payment"], None)
    sale.recount()


def counted(sales: dict[bytes, PartSale]) -> Counter[str]:
    """What all of them come to as sales."""
    sold = [sale for sale in sales.values() if sale.is_counted]
    return Counter(sales=len(sold), total=sum(sale.total for sale in sold))

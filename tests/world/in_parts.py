"""Acts of sales that are paid in parts: several cards, cash and cards, less than asked, given up in the middle."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import structs

from appliance.model.ids import RequestKey
from appliance.model.money import round_to
from appliance.wire.requests import LineBody, PaymentBody, TenderBody
from provisioning.sandbox.stripe_twin_api import PARTIAL
from tests.world.books import covers_of, total_of
from tests.world.box import CASH_ROUNDING_MINOR
from tests.world.selling import DECLINED_CARD, RECENT, sale_of, sell
from tests.world.till import Question, Till

if TYPE_CHECKING:
    from tests.world.world import World

_TOTALS: Final = (1_203, 1_500, 2_407)


def sell_in_parts(world: World) -> None:
    """A first part; the rest follows at any till, each part as the tills know the sale by then."""
    till, plan = world.any_till(), world.plan
    first = _sell_first(world, till)
    world.in_parts.append(first)
    for _ in range(plan.randint(1, 3)):
        pause_s = plan.choice((plan.uniform(0.0, 1.0), plan.uniform(0.0, 40.0)))
        _later(world, pause_s, first)
    if plan.random() < 0.2:
        question = Question(key=till.new_key(), of=first, verb="reversal")
        till.loop.on(till.machine, plan.uniform(0.0, 20.0), lambda: till.ask(question))
    if plan.random() < 0.15:
        world.tries.append([first])  # the whole sale may be tried with another tender


def pay_a_part(world: World) -> None:
    """More of a sale that is open, at two tills at once at times: together they take what is left and no more."""
    if world.in_parts:
        first = world.plan.choice(world.in_parts[-RECENT:])
        for _ in range(world.plan.choice((1, 2))):
            _later(world, 0.0, first)


def _later(world: World, pause_s: float, first: RequestKey) -> None:
    till = world.any_till()
    till.loop.on(till.machine, pause_s, partial(_sell_part, world, till, first))


def _sell_first(world: World, till: Till) -> RequestKey:
    plan, total = world.plan, world.plan.choice(_TOTALS)
    if plan.random() < 0.25:
        body = structs.replace(_paid_by(world, "partial", total, total), partial="accepted")
    else:
        covers = plan.choice((500, 700, total // 2))
        kind = plan.choice(("cash", "card", "card", "declined", "pin_pad"))
        body = _paid_by(world, kind, covers, total)
        covers = covers_of(body)
        body = structs.replace(body, amount_minor=total, remaining_minor=total - covers)
    if plan.random() < 0.4:
        pieces = LineBody(sku="apple", quantity_thousandths=2_000, unit_price_minor=total // 3)
        other = LineBody(sku="bread", unit_price_minor=total - 2 * (total // 3))
        body = structs.replace(body, amount_minor=None, total_minor=total, lines=(pieces, other))
    return sell(world, body, till=till)


def _sell_part(world: World, till: Till, first: RequestKey) -> None:
    """Mostly of what a till heard that is open; at times one that went wrong is tried again."""
    plan, books = world.plan, world.books
    sale = books.sales[str(first)]
    told = books.in_parts.get(str(first))
    open_minor = total_of(sale) - covers_of(sale) if told is None else told.remaining_minor
    retry_of: tuple[str, ...] = ()
    if plan.random() < 0.25:
        again = plan.choice([str(first), *(key for key, each in books.sales.items() if each.part_of == str(first))])
        retry_of = (again, *books.sales[again].retry_of)
        covers = covers_of(books.sales[again])
    else:
        covers = plan.choice((open_minor, open_minor, open_minor, open_minor // 2, open_minor + 5))
    if covers <= 0:
        return
    kind = plan.choice(("cash", "card", "card", "declined", "partial", "pin_pad", "mixed"))
    body = _paid_by(world, kind, covers, open_minor)
    sell(world, structs.replace(body, part_of=str(first), retry_of=retry_of), till=till)


def _paid_by(world: World, kind: str, covers: int, open_minor: int) -> PaymentBody:
    """A payment of `covers`; cash that does not complete the sale comes in whole steps."""
    match kind:
        case "cash":
            return _with_cash(0, covers, open_minor)
        case "mixed" if covers > 100:
            return _with_cash(covers // 2, covers, open_minor)
        case "pin_pad":
            return sale_of(covers, (TenderBody(kind="pin_pad", amount_minor=covers),), 0, 0)
        case "partial":
            body = sale_of(covers, (TenderBody(kind="card", amount_minor=covers, source=PARTIAL),), 0, 0)
            return structs.replace(body, partial="accepted")
        case _:
            source = DECLINED_CARD if kind == "declined" else None
            return sale_of(covers, (TenderBody(kind="card", amount_minor=covers, source=source),), 0, 0)


def _with_cash(card: int, covers: int, open_minor: int) -> PaymentBody:
    cash = covers - card
    if covers != open_minor:
        cash -= cash % CASH_ROUNDING_MINOR
    payable = round_to(cash, CASH_ROUNDING_MINOR)
    if not payable:  # too little for cash: by card then
        return sale_of(covers, (TenderBody(kind="card", amount_minor=covers),), 0, 0)
    cards = (TenderBody(kind="card", amount_minor=card),) if card else ()
    return sale_of(card + cash, (*cards, TenderBody(kind="cash", amount_minor=payable)), 0, payable - cash)

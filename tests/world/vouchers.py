"""Acts of vouchers: sold or given, spent at any till, at two at once, taken back; and what everybody knows of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from appliance.model.money import round_to
from appliance.wire.requests import PaymentBody, TenderBody, VoucherBody
from tests.world.books import total_of
from tests.world.box import CASH_ROUNDING_MINOR
from tests.world.selling import AMOUNTS, DECLINED_CARD, RECENT, cash_sale, sale_of, sell
from tests.world.till import Question, Till

if TYPE_CHECKING:
    from tests.world.world import World

_AMOUNTS: Final = (500, 1_000, 2_000)


def sell_a_voucher(world: World) -> None:
    """With a sale that pays for it, or as a gift."""
    till, plan = world.any_till(), world.plan
    if plan.random() < 0.4:
        _ask(world, till, VoucherBody(act="issue", amount_minor=plan.choice(_AMOUNTS), reason="gift"))
        return
    sale = cash_sale(world)
    of = sell(world, sale, till=till)
    for _ in range(plan.choice((1, 1, 2))):  # two would be worth more than the sale
        body = VoucherBody(act="issue", amount_minor=total_of(sale), of=str(of))
        till.loop.on(till.machine, plan.uniform(1.0, 4.0), partial(_ask, world, till, body))


def spend_a_voucher(world: World) -> None:
    """All of it or a part, beside cash or a card; at two tills at once at times, and more than there is."""
    code = _some_code(world)
    if code is not None:
        for till in world.plan.sample(world.tills, world.plan.choice((1, 2))):
            sell(world, _sale(world, code), till=till)


def take_back_a_voucher(world: World) -> None:
    """While somebody spends it."""
    code = _some_code(world)
    if code is not None:
        till, other = world.plan.sample(world.tills, 2)
        _ask(world, till, VoucherBody(act="void", code=code, reason="found"))
        if world.plan.random() < 0.5:
            sell(world, _sale(world, code), till=other)


def _some_code(world: World) -> str | None:
    codes = list(world.books.vouchers.codes)
    return world.plan.choice(codes[-RECENT:]) if codes else None


def _sale(world: World, code: str) -> PaymentBody:
    plan = world.plan
    total = plan.choice(AMOUNTS)
    worth = min(total, world.books.vouchers.codes[code])
    spent = max(1, plan.choice((worth, worth // 2, min(total, 250))))
    voucher = TenderBody(kind="voucher", amount_minor=spent, source=code)
    if spent == total:
        return sale_of(total, (voucher,), 0, 0)
    if plan.random() < 0.4:
        rest = total - spent
        rounded = round_to(rest, CASH_ROUNDING_MINOR) or CASH_ROUNDING_MINOR
        cash = TenderBody(kind="cash", amount_minor=rounded)
        return sale_of(total, (voucher, cash), 0, rounded - rest)
    source = DECLINED_CARD if plan.random() < 0.3 else None
    return sale_of(total, (voucher, TenderBody(kind="card", amount_minor=total - spent, source=source)), 0, 0)


def _ask(world: World, till: Till, body: VoucherBody) -> None:
    key = till.new_key()
    question = Question(key=key, of=key, verb="voucher", body=body)
    world.asked.append((till, question))
    till.ask(question)

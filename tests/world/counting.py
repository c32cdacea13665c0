"""Acts at the counter beside selling: drawers, X and Z, the end of the shop's day."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from appliance.wire.requests import DrawerBody, ReportBody
from tests.world.selling import cash_sale, sell
from tests.world.till import Question, Till

if TYPE_CHECKING:
    from tests.world.world import World

FRONT: Final = "front"
"""A drawer that any till may take over."""


def use_a_drawer(world: World) -> None:
    """Money goes in and out beside sales, somebody opens it for nothing, or counts it and is wrong."""
    till, plan = world.any_till(), world.plan
    match plan.choice(("float", "float", "front", "paid_in", "paid_out", "paid_out", "no_sale", "count")):
        case "float":
            body = DrawerBody(act="float", amount_minor=plan.choice((2_000, 10_000)))
        case "front":
            body = DrawerBody(act="float", drawer=FRONT, amount_minor=plan.choice((0, 5_000)))
        case "paid_in":
            body = DrawerBody(act="paid_in", amount_minor=500, reason="deposit")
        case "paid_out":
            body = DrawerBody(act="paid_out", amount_minor=plan.choice((500, 2_000, 5_000)), reason="milk")
        case "no_sale":
            body = DrawerBody(act="no_sale")
        case _:
            body = DrawerBody(act="count", amount_minor=plan.choice((0, 2_000, plan.randrange(20_000))))
    _ask(world, till, body)


def pay_out_at_two_tills(world: World) -> None:
    """Two tills on one drawer take all of it out in the same moment: it is there once."""
    amount = world.plan.choice((2_000, 5_000))
    tills = world.plan.sample(world.tills, 2)
    for till in tills:
        _ask(world, till, DrawerBody(act="float", drawer=FRONT, amount_minor=amount // 2))
    for till in tills:
        body = DrawerBody(act="paid_out", amount_minor=amount, reason="bank")
        till.loop.on(till.machine, 2.0, partial(_ask, world, till, body))


def read_a_period(world: World) -> None:
    """X of a till or its drawer."""
    till = world.any_till()
    body = ReportBody(kind="x", scope=_scope(world))
    till.loop.spawn(till.machine, till.read(body), f"{till.name} reads")


def close_a_period(world: World) -> None:
    """Z of a till or its drawer, mostly in the middle of sales."""
    till = world.any_till()
    key = till.new_key()
    question = Question(key=key, of=key, verb="report", body=ReportBody(kind="z", scope=_scope(world)))
    _in_the_rush(world, till, lambda: _remember(world, till, question))


def close_the_day(world: World) -> None:
    """The operator ends the shop's day in the middle of sales, perhaps the second one today."""
    _in_the_rush(world, world.any_till(), world.close_day)


def _in_the_rush(world: World, till: Till, do: Callable[[], None]) -> None:
    """Somebody buys before, in the same moment and right after."""
    if world.plan.random() < 0.3:
        do()
        return
    for _ in range(3):
        till.loop.on(till.machine, world.plan.uniform(0.0, 0.02), partial(_buy, world, till))
    till.loop.on(till.machine, 0.01, do)


def _buy(world: World, till: Till) -> None:
    sell(world, cash_sale(world), till=till)


def _scope(world: World) -> Literal["drawer", "terminal"]:
    scope: Literal["drawer", "terminal"] = world.plan.choice(("drawer", "terminal"))
    return scope


def _ask(world: World, till: Till, body: DrawerBody) -> None:
    key = till.new_key()
    _remember(world, till, Question(key=key, of=key, verb="drawer", body=body))


def _remember(world: World, till: Till, question: Question) -> None:
    world.asked.append((till, question))
    till.ask(question)

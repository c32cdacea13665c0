"""Acts at PIN pads, whose banks come and go: cards are accepted without them, and forwarded later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.world.selling import AMOUNTS, pad_sale, sell
from tests.world.till import Question

if TYPE_CHECKING:
    from tests.world.world import World


def sell_at_a_pad(world: World) -> None:
    """At times the customer comes back soon: the card is withdrawn, or its bank is asked before it goes back."""
    till, plan = world.any_till(), world.plan
    payment = sell(world, pad_sale(world, plan.choice(AMOUNTS)), till=till)
    if plan.random() < 0.4:
        verb = plan.choice(("abort", "refund", "reversal", "reversal"))
        question = Question(key=till.new_key(), of=payment, verb=verb)
        pause_s = plan.choice((plan.uniform(0.0, 2.0), plan.uniform(0.0, 60.0)))
        till.loop.on(till.machine, pause_s, lambda: till.ask(question))


def sell_at_all_pads(world: World) -> None:
    """Every till takes a card in the same moment, two of them at one pad: what may still be accepted is there once."""
    for till in world.tills:
        sell(world, pad_sale(world, world.plan.choice(AMOUNTS)), till=till)


def sell_without_banks(world: World) -> None:
    """No card's bank can be asked, for a while or for long; the shop sells on."""
    plan = world.plan
    world.pads.set_bank(is_down=True)
    for _ in range(plan.randint(1, 4)):
        world.loop.on(world.street, plan.uniform(0.0, 4.0), lambda: sell_at_a_pad(world))
    away_s = plan.choice((plan.uniform(2.0, 8.0), plan.uniform(5.0, 120.0), None))
    if away_s is not None:
        world.loop.on(world.street, away_s, lambda: world.pads.set_bank(is_down=False))

"""Acts of the box, its disk and token, the weather and time: what nobody wants and everybody meets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.world.stepping import CommitCut

if TYPE_CHECKING:
    from tests.world.world import World

DAY_S: Final = 86_400.0


# --- what befalls the box ---


def crash_soon(world: World) -> None:
    """At any step of the process, near or far."""
    world.crash_after_steps(int(10 ** world.plan.uniform(0.0, 3.0)), is_power_cut=world.plan.random() < 0.5)


def crash_in_a_commit(world: World) -> None:
    """Before, within or right after what one of the next commits writes."""
    share = world.plan.choice((0.0, world.plan.random(), 1.0))
    cut = CommitCut(left=world.plan.randrange(1, 5), share=share)
    world.crash_in_commit(cut, is_power_cut=world.plan.random() < 0.7)


def stop_in_order(world: World) -> None:
    world.stop_box()


def disk_fails(world: World) -> None:
    """A sync fails: what was written looks clean and never arrives."""
    after = world.plan.randrange(0, 3)
    world.break_disk(world.plan.choice((f"sync ledger.db-wal eio {after}", f"write ledger.db-wal eio {after}")))


def disk_is_full(world: World) -> None:
    world.break_disk(world.plan.choice(("write ledger.db-wal enospc 0", "write ledger.db-wal short 1")))


def mend_disk(world: World) -> None:
    world.mend_disk()


def token_goes(world: World) -> None:
    """The HSM is away, or slow, until the next time this is drawn."""
    world.token.is_away = not world.token.is_away
    world.token.delay_ms = world.plan.choice((5, 5, 100, 700))
    world.books.history.add("token", "is away" if world.token.is_away else f"takes {world.token.delay_ms} ms")


# --- time and weather ---


def change_weather(world: World) -> None:
    weather, plan = world.network.weather, world.plan
    weather.trouble = plan.choice((0.0, 0.2, 0.4, 0.8))
    weather.is_outage = plan.random() < 0.15
    weather.list_lag_s = plan.choice((0.0, 5.0, 20.0))
    world.lan.trouble = plan.choice((0.0, 0.1, 0.3))
    world.books.history.add(
        "weather",
        f"provider {weather.trouble} outage {weather.is_outage} lag {weather.list_lag_s} lan {world.lan.trouble}",
    )


def step_clock(world: World) -> None:
    """The box's wall clock jumps, as an operator or NTP does."""
    hour, day = 3_600_000, 24 * 3_600_000
    steps = (-90_000, -2_000, 2_000, 90_000, 4 * hour, -4 * hour, 5 * day, -5 * day, 100 * day)
    world.step_box_clock(world.plan.choice(steps))


def till_clock_drifts(world: World) -> None:
    till = world.any_till()
    till.clock.offset_ms += world.plan.choice((-400_000, -3_000, 3_000, 400_000))
    world.books.history.add(till.name, f"has a clock that is {till.clock.offset_ms} ms off")


def hours_pass(world: World) -> None:
    """Nobody runs for some hours, as in a machine that was suspended."""
    world.freeze(world.plan.uniform(0.5, 6.0) * 3_600)


def days_pass(world: World) -> None:
    """Nobody runs for so long that what is held may not be captured any more, or that the card's bank gave it up."""
    world.freeze(world.plan.choice((1.9, 2.1, 2.1, 7.5)) * DAY_S)


def a_day_without_power(world: World) -> None:
    """The box loses its power in the middle of something and comes back when the provider has forgotten every key."""
    world.crash_after_steps(int(10 ** world.plan.uniform(0.0, 2.5)), is_power_cut=True, down_s=1.1 * DAY_S)

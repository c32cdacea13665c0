"""Everything that can happen in a world, by weight: the whole vocabulary is the table `ACTS`.

A new verb is one function and one line. An act draws what it needs from `world.plan`, and nothing else may: so a seed
stays the same history for as long as this table does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec import structs

from appliance.model.ids import RequestKey, request_key
from appliance.model.limits import SALE_TRIES_MAX
from appliance.model.money import round_to
from appliance.wire.requests import BatchBody, BatchItem, PaymentBody, TenderBody
from tests.world.box import CASH_ROUNDING_MINOR, CURRENCY, CommitCut
from tests.world.till import Question, Till

if TYPE_CHECKING:
    from tests.world.world import World

AMOUNTS: Final = (250, 500, 1_203, 1_999, 2_407)
"""Few, so that two sales often have the same amount: nothing may be found by its amount."""
DECLINED_CARD: Final = "pm_card_visa_chargeDeclined"
RECENT: Final = 6
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One kind of event; `weight` is how often it is drawn."""

    name: str
    weight: int
    do: Callable[[World], None]


# --- what people do ---


def sell_for_cash(world: World) -> None:
    _sell(world, cash_sale(world))


def sell_by_card(world: World) -> None:
    source = DECLINED_CARD if world.plan.random() < 0.1 else None
    _sell(world, card_sale(world, source))


def sell_mixed(world: World) -> None:
    _sell(world, mixed_sale(world, world.plan.choice(AMOUNTS)))


def sell_and_give_up(world: World) -> None:
    """A till that loses its patience with a card payment takes it back at once, under a key of its own."""
    till = world.any_till()
    payment = _sell(world, card_sale(world, None), till=till, patience_ms=300)
    till.loop.on(
        till.machine,
        world.plan.uniform(0.0, 2.0),
        lambda: till.ask(Question(key=till.new_key(), of=payment, verb="reversal")),
    )


def sell_and_try_another_tender(world: World) -> None:
    """A till waits no longer for a card and sells the same again, linked, with what the customer has in hand."""
    till = world.any_till()
    first = _sell(world, card_sale(world, None), till=till, patience_ms=300)
    world.tries.append([first])
    pause_s = world.plan.choice((0.0, world.plan.uniform(0.0, 2.0), world.plan.uniform(0.0, 60.0)))
    _try_again(world, till, world.tries[-1], pause_s)


def try_again(world: World) -> None:
    """What was tried is tried once more, at any till: in a line, or beside another retry."""
    if world.tries:
        _try_again(world, world.any_till(), world.plan.choice(world.tries[-RECENT:]), 0.0)


def cancel_in_advance(world: World) -> None:
    """A reversal overtakes its payment: the payment must not stand when it comes."""
    till = world.any_till()
    key = till.new_key()
    body = card_sale(world, None) if world.plan.random() < 0.5 else cash_sale(world)
    verb = world.plan.choice(("reversal", "abort"))
    till.ask(Question(key=till.new_key(), of=key, verb=verb))
    later = Question(key=key, of=key, verb="payment", body=body)
    till.loop.on(till.machine, world.plan.uniform(0.0, 4.0), lambda: till.ask(later))


def refund(world: World) -> None:
    _undo(world, "refund")


def refund_twice_at_once(world: World) -> None:
    """Two tills give the same payment back in the same moment: one wins."""
    of = world.some_payment(RECENT)
    for till in world.plan.sample(world.tills, 2):
        if of is not None:
            till.ask(Question(key=till.new_key(), of=of, verb="refund"))


def reverse(world: World) -> None:
    _undo(world, "reversal")


def abort(world: World) -> None:
    _undo(world, "abort")


def send_stored_sales(world: World) -> None:
    till = world.any_till()
    items = tuple(
        BatchItem(key=str(till.new_key()), payment=cash_sale(world)) for _ in range(world.plan.randrange(1, 5))
    )
    key = till.new_key()
    world.batches.append((till, BatchBody(items=items)))
    till.ask(Question(key=key, of=key, verb="batch", body=BatchBody(items=items)))


def send_stored_sales_again(world: World) -> None:
    """A till that forgot that it sent them: the same sales under their own keys, in a new batch."""
    if world.batches:
        till, body = world.plan.choice(world.batches)
        key = till.new_key()
        till.ask(Question(key=key, of=key, verb="batch", body=body))


def ask_again(world: World) -> None:
    """The same question a second time, beside the first or after its answer."""
    if world.asked:
        till, question = world.plan.choice(world.asked[-RECENT:])
        till.spawn(question)


def look(world: World) -> None:
    of = world.some_payment(3 * RECENT)
    if of is not None:
        till = world.any_till()
        till.loop.spawn(till.machine, till.look(str(of)), f"{till.name} status")


def tamper(world: World) -> None:
    """Another sale under a key that has its answer."""
    answered = [told.key for told in world.books.told if told.verb == "payment"]
    if answered:
        key = world.plan.choice(answered[-RECENT:])
        amount = (world.books.sales[key].amount_minor or 0) + 100
        body = _body(amount, (TenderBody(kind="card", amount_minor=amount),), 0, 0)
        till = world.any_till()
        till.loop.spawn(till.machine, till.tamper(request_key(key), body), f"{till.name} tampers")


def restart_till(world: World) -> None:
    world.any_till().restart()


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


def a_day_without_power(world: World) -> None:
    """The box loses its power in the middle of something and comes back when the provider has forgotten every key."""
    world.crash_after_steps(int(10 ** world.plan.uniform(0.0, 2.5)), is_power_cut=True, down_s=1.1 * DAY_S)


ACTS: Final = (
    Act(name="sell for cash", weight=16, do=sell_for_cash),
    Act(name="sell by card", weight=30, do=sell_by_card),
    Act(name="sell mixed", weight=6, do=sell_mixed),
    Act(name="sell and give up", weight=7, do=sell_and_give_up),
    Act(name="sell and try another tender", weight=8, do=sell_and_try_another_tender),
    Act(name="try again", weight=6, do=try_again),
    Act(name="cancel in advance", weight=4, do=cancel_in_advance),
    Act(name="refund", weight=9, do=refund),
    Act(name="refund twice at once", weight=6, do=refund_twice_at_once),
    Act(name="reverse", weight=7, do=reverse),
    Act(name="abort", weight=4, do=abort),
    Act(name="send stored sales", weight=4, do=send_stored_sales),
    Act(name="send stored sales again", weight=3, do=send_stored_sales_again),
    Act(name="ask again", weight=6, do=ask_again),
    Act(name="look", weight=8, do=look),
    Act(name="tamper", weight=3, do=tamper),
    Act(name="restart a till", weight=3, do=restart_till),
    Act(name="crash soon", weight=6, do=crash_soon),
    Act(name="crash in a commit", weight=6, do=crash_in_a_commit),
    Act(name="stop in order", weight=1, do=stop_in_order),
    Act(name="disk fails", weight=2, do=disk_fails),
    Act(name="disk is full", weight=1, do=disk_is_full),
    Act(name="mend the disk", weight=2, do=mend_disk),
    Act(name="token goes", weight=2, do=token_goes),
    Act(name="change weather", weight=12, do=change_weather),
    Act(name="step the clock", weight=2, do=step_clock),
    Act(name="a till's clock drifts", weight=1, do=till_clock_drifts),
    Act(name="hours pass", weight=1, do=hours_pass),
    Act(name="a day without power", weight=2, do=a_day_without_power),
)


def cash_sale(world: World, total: int | None = None) -> PaymentBody:
    total = world.plan.choice(AMOUNTS) if total is None else total
    payable, change = _in_cash(world, total)
    return _body(total, (TenderBody(kind="cash", amount_minor=payable + change),), change, payable - total)


def card_sale(world: World, source: str | None, total: int | None = None) -> PaymentBody:
    total = world.plan.choice(AMOUNTS) if total is None else total
    return _body(total, (TenderBody(kind="card", amount_minor=total, source=source),), 0, 0)


def mixed_sale(world: World, total: int) -> PaymentBody:
    card = world.plan.randrange(1, total - 50)
    payable, change = _in_cash(world, total - card)
    tenders = (
        TenderBody(kind="card", amount_minor=card),
        TenderBody(kind="cash", amount_minor=payable + change),
    )
    return _body(total, tenders, change, payable - (total - card))


def _in_cash(world: World, left_minor: int) -> tuple[int, int]:
    """What is to be paid in cash, rounded as the shop does, and how much change is given."""
    return round_to(left_minor, CASH_ROUNDING_MINOR), world.plan.choice((0, 0, 100, 2_000))


def _body(total: int, tenders: tuple[TenderBody, ...], change: int, rounding: int) -> PaymentBody:
    return PaymentBody(
        currency=CURRENCY, tenders=tenders, amount_minor=total, change_minor=change, rounding_minor=rounding
    )


def _sell(world: World, body: PaymentBody, *, till: Till | None = None, patience_ms: int | None = None) -> RequestKey:
    till = till or world.any_till()
    key = till.new_key()
    question = Question(key=key, of=key, verb="payment", body=body)
    world.asked.append((till, question))
    till.ask(question, patience_ms)
    return key


def _try_again(world: World, till: Till, tries: list[RequestKey], pause_s: float) -> None:
    """All tries so far are named, whether the box answered for them or not; at times another till knows fewer."""
    known = tries if world.plan.random() < 0.8 else tries[: world.plan.randrange(len(tries)) + 1]
    of = tuple(str(each) for each in reversed(known[:SALE_TRIES_MAX]))
    body, key = _other_tender(world, world.books.sales[of[-1]].amount_minor or 0), till.new_key()
    question = Question(key=key, of=key, verb="payment", body=structs.replace(body, retry_of=of))

    def ask() -> None:
        tries.append(key)
        world.asked.append((till, question))
        till.ask(question)

    till.loop.on(till.machine, pause_s, ask)


def _other_tender(world: World, total: int) -> PaymentBody:
    draw = world.plan.random()
    if draw < 0.4:
        return cash_sale(world, total)
    if draw < 0.55:
        return mixed_sale(world, total)
    return card_sale(world, DECLINED_CARD if draw > 0.8 else None, total)


def _undo(world: World, verb: str) -> None:
    till = world.any_till()
    of = world.some_payment(RECENT)
    if of is None:
        return
    question = Question(key=till.new_key(), of=of, verb=verb)
    world.asked.append((till, question))
    till.ask(question)

"""Acts about sales that were asked for: given back, stopped, asked again, looked at, tampered with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.model.ids import RequestKey, request_key
from appliance.wire.requests import RefundBody, RefundLine, TenderBody
from tests.world.books import total_of
from tests.world.selling import RECENT, capture_soon, cash_sale, sale_of, slow_sale
from tests.world.template import AUDIENCE
from tests.world.till import Question

if TYPE_CHECKING:
    from tests.world.world import World


def cancel_in_advance(world: World) -> None:
    """A reversal overtakes its payment: the payment must not stand when it comes."""
    till = world.any_till()
    key = till.new_key()
    body = slow_sale(world, till) if world.plan.random() < 0.5 else cash_sale(world)
    verb = world.plan.choice(("reversal", "abort"))
    till.ask(Question(key=till.new_key(), of=key, verb=verb))
    later = Question(key=key, of=key, verb="payment", body=body)
    till.loop.on(till.machine, world.plan.uniform(0.0, 4.0), lambda: till.ask(later))


def refund(world: World) -> None:
    _undo(world, "refund")


def refund_a_part(world: World) -> None:
    """An amount, or pieces of a line; at times more than there is."""
    till, of = world.any_till(), world.some_payment(RECENT)
    if of is not None:
        question = Question(key=till.new_key(), of=of, verb="refund", body=_part(world, of))
        world.asked.append((till, question))
        till.ask(question)


def refund_twice_at_once(world: World) -> None:
    """Two tills give the same payment back in the same moment, all or parts of it: no more goes back than was paid."""
    of = world.some_payment(RECENT)
    for till in world.plan.sample(world.tills, 2):
        if of is not None:
            body = _part(world, of) if world.plan.random() < 0.5 else None
            till.ask(Question(key=till.new_key(), of=of, verb="refund", body=body))


def capture(world: World) -> None:
    """What is held is captured, or once more: by the till that sold, at times by another, at times twice at once."""
    if not world.held:
        return
    seller, of = world.plan.choice(world.held[-RECENT:])
    capture_soon(world, seller if world.plan.random() < 0.8 else world.any_till(), of, 0.0)
    if world.plan.random() < 0.3:
        capture_soon(world, seller, of, 0.0)


def reverse(world: World) -> None:
    _undo(world, "reversal")


def abort(world: World) -> None:
    _undo(world, "abort")


def send_a_webhook(world: World) -> None:
    """Somebody sends what the provider did not: a recording, a forgery, a lie or something about a stranger."""
    plan, sales = world.plan, list(world.books.sales)
    of = plan.choice(sales[-RECENT:]) if sales else "nobody"
    about = {"id": f"pi_{plan.randrange(20):024x}", "amount": plan.choice((250, 2_407)), "currency": "eur"}
    ours = {"tillstone_log": AUDIENCE, "tillstone_payment": of, "tillstone_operation": f"{of}/0"}
    match plan.choice(("recording", "forgery", "lie", "lie", "stranger")):
        case "recording":
            world.relay.play_again()
        case "forgery":
            world.relay.forge({**about, "metadata": ours})
        case "lie":
            world.relay.lie({**about, "metadata": ours})
        case _:
            world.relay.lie({**about, "metadata": plan.choice(({"order": "6735"}, {**ours, "tillstone_log": "other"}))})


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
        amount = total_of(world.books.sales[key]) + 100
        body = sale_of(amount, (TenderBody(kind="card", amount_minor=amount),), 0, 0)
        till = world.any_till()
        till.loop.spawn(till.machine, till.tamper(request_key(key), body), f"{till.name} tampers")


def restart_till(world: World) -> None:
    world.any_till().restart()


def _part(world: World, of: RequestKey) -> RefundBody:
    sale, plan = world.books.sales[str(of)], world.plan
    total = total_of(sale)
    if plan.random() < 0.5:
        return RefundBody(
            of=str(of), amount_minor=plan.choice((total // 3, total // 2, max(1, total - 100), total + 5))
        )
    index = plan.randrange(max(1, len(sale.lines)))
    return RefundBody(
        of=str(of), lines=(RefundLine(index=index, quantity_thousandths=plan.choice((500, 1_000, 1_000, 2_000))),)
    )


def _undo(world: World, verb: str) -> None:
    till = world.any_till()
    of = world.some_payment(RECENT)
    if of is None:
        return
    question = Question(key=till.new_key(), of=of, verb=verb)
    world.asked.append((till, question))
    till.ask(question)

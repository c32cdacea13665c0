"""Acts of selling, and the sales that are sold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from msgspec import structs

from appliance.model.ids import RequestKey
from appliance.model.limits import SALE_TRIES_MAX
from appliance.model.money import round_to
from appliance.payment.readers import OWN
from appliance.wire.requests import BatchBody, BatchItem, CaptureBody, LineBody, PaymentBody, TenderBody
from provisioning.sandbox.stripe_twin_readers import Customer
from tests.world.books import card_of, total_of
from tests.world.box import CASH_ROUNDING_MINOR, CURRENCY
from tests.world.till import Question, Till

if TYPE_CHECKING:
    from tests.world.world import World

AMOUNTS: Final = (250, 500, 1_203, 1_999, 2_407)
"""Few, so that two sales often have the same amount: nothing may be found by its amount."""
DECLINED_CARD: Final = "pm_card_visa_chargeDeclined"
AT_THE_READER: Final[dict[Literal["approve", "decline", "walk_away", "cancel", "lose_line", "vanish"], int]] = {
    "approve": 8,
    "decline": 2,
    "walk_away": 2,
    "cancel": 1,
    "lose_line": 2,
    "vanish": 2,
}
"""What customers do at a card reader, by weight; the last two charge, and the reader does not say so."""
RECENT: Final = 6


def sell_for_cash(world: World) -> None:
    sell(world, _by_lines(world, cash_sale(world)))


def sell_by_card(world: World) -> None:
    source = DECLINED_CARD if world.plan.random() < 0.1 else None
    sell(world, _by_lines(world, card_sale(world, source)))


def sell_mixed(world: World) -> None:
    sell(world, _by_lines(world, mixed_sale(world, world.plan.choice(AMOUNTS))))


def sell_by_paypal(world: World) -> None:
    """The customer agrees at an address that the till shows, or does not."""
    total = world.plan.choice(AMOUNTS)
    paypal = total if world.plan.random() < 0.7 else total // 2
    sell(world, paypal_sale(world, total, paypal), patience_ms=4_000)


def sell_at_a_reader(world: World) -> None:
    """At the till's own reader, which at times only has the money held."""
    till, plan = world.any_till(), world.plan
    body = reader_sale(world, till, plan.choice(AMOUNTS))
    if plan.random() < 0.15:
        body = structs.replace(body, capture="later")
    payment = sell(world, body, till=till, patience_ms=4_000)
    if body.capture == "later":
        world.held.append((till, payment))
    elif plan.random() < 0.2:
        question = Question(key=till.new_key(), of=payment, verb=plan.choice(("abort", "reversal")))
        till.loop.on(till.machine, plan.uniform(0.5, 30.0), lambda: till.ask(question))


def sell_and_give_up(world: World) -> None:
    """A till that loses its patience with a payment takes it back at once or soon, under a key of its own."""
    till = world.any_till()
    payment = sell(world, slow_sale(world, till), till=till, patience_ms=world.plan.choice((300, 4_000)))
    till.loop.on(
        till.machine,
        world.plan.choice((world.plan.uniform(0.0, 2.0), world.plan.uniform(0.0, 20.0))),
        lambda: till.ask(Question(key=till.new_key(), of=payment, verb="reversal")),
    )


def sell_and_capture_later(world: World) -> None:
    """The card's bank holds total and tip; a while later the till takes what the customer wrote down, or forgets it."""
    till, plan = world.any_till(), world.plan
    body = card_sale(world, None)
    tip = plan.choice((0, 0, 150, 400))
    total = total_of(body)
    tender = TenderBody(kind="card", amount_minor=total + tip)
    payment = sell(world, structs.replace(body, capture="later", tip_minor=tip, tenders=(tender,)), till=till)
    world.held.append((till, payment))
    if plan.random() < 0.7:
        capture_soon(world, till, payment, plan.choice((1.0, plan.uniform(0.0, 5.0), plan.uniform(0.0, 60.0))))


def capture_soon(world: World, till: Till, of: RequestKey, pause_s: float) -> None:
    """Ask for a capture: mostly for what was held or less of the tip, at times for more, or less than the total."""
    sale = world.books.sales[str(of)]
    total, held = total_of(sale), card_of(sale)
    amount = world.plan.choice((None, total, held, (total + held) // 2, (total + held) // 2, held + 100, total - 1))
    question = Question(key=till.new_key(), of=of, verb="capture", body=CaptureBody(of=str(of), amount_minor=amount))

    def ask() -> None:
        world.asked.append((till, question))
        till.ask(question)

    till.loop.on(till.machine, pause_s, ask)


def sell_and_try_another_tender(world: World) -> None:
    """A till waits no longer for its customer and sells the same again, linked, with what the customer has in hand."""
    till = world.any_till()
    first = sell(world, slow_sale(world, till), till=till, patience_ms=300)
    world.tries.append([first])
    pause_s = world.plan.choice((0.0, world.plan.uniform(0.0, 2.0), world.plan.uniform(0.0, 60.0)))
    _try_again(world, till, world.tries[-1], pause_s)


def try_again(world: World) -> None:
    """What was tried is tried once more, at any till: in a line, or beside another retry."""
    if world.tries:
        _try_again(world, world.any_till(), world.plan.choice(world.tries[-RECENT:]), 0.0)


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


def cash_sale(world: World, total: int | None = None) -> PaymentBody:
    total = world.plan.choice(AMOUNTS) if total is None else total
    payable, change = _in_cash(world, total)
    return sale_of(total, (TenderBody(kind="cash", amount_minor=payable + change),), change, payable - total)


def card_sale(world: World, source: str | None, total: int | None = None) -> PaymentBody:
    total = world.plan.choice(AMOUNTS) if total is None else total
    return sale_of(total, (TenderBody(kind="card", amount_minor=total, source=source),), 0, 0)


def slow_sale(world: World, till: Till) -> PaymentBody:
    """One whose customer or bank may take too long: by card, at the reader, by PayPal, or with the money held."""
    total, draw = world.plan.choice(AMOUNTS), world.plan.random()
    if draw < 0.1:
        return pad_sale(world, total)
    if draw < 0.2:
        return reader_sale(world, till, total)
    if draw < 0.35:
        return paypal_sale(world, total, total)
    body = card_sale(world, None, total)
    return structs.replace(body, capture="later") if draw < 0.5 else body


def reader_sale(world: World, till: Till, total: int) -> PaymentBody:
    """The customer at the till's own reader taps, is declined, dawdles, cancels or goes; or the reader fails."""
    plan = world.plan
    does = plan.choices(list(AT_THE_READER), list(AT_THE_READER.values()))[0]
    customer = Customer(
        does=does,
        after_ms=plan.choice((300, 2_000, plan.randrange(20_000))),
        authorise_ms=plan.choice((0, 0, 0, 2_000, 30_000)),
        reaches=plan.choice(("yes",) * 8 + ("no", "unheard")),
    )
    world.twin.let_come(till.name, customer)
    world.books.history.add("customer", f"at the reader of {till.name}: {does} after {customer.after_ms} ms")
    return card_sale(world, OWN, total)


def pad_sale(world: World, total: int) -> PaymentBody:
    """At the till's own pad; at times a part in cash."""
    if world.plan.random() < 0.75:
        return sale_of(total, (TenderBody(kind="pin_pad", amount_minor=total),), 0, 0)
    return _with_cash(world, total, "pin_pad", total // 2)


def mixed_sale(world: World, total: int) -> PaymentBody:
    card = world.plan.randrange(1, total - 50)
    payable, change = _in_cash(world, total - card)
    tenders = (
        TenderBody(kind="card", amount_minor=card),
        TenderBody(kind="cash", amount_minor=payable + change),
    )
    return sale_of(total, tenders, change, payable - (total - card))


def _by_lines(world: World, body: PaymentBody) -> PaymentBody:
    """At times the till says what was sold: two pieces of one thing, one of another."""
    if world.plan.random() < 0.6:
        return body
    total = total_of(body)
    pieces = LineBody(sku="apple", quantity_thousandths=2_000, unit_price_minor=total // 3)
    other = LineBody(sku="bread", unit_price_minor=total - 2 * (total // 3))
    return structs.replace(body, amount_minor=None, total_minor=total, lines=(pieces, other))


def paypal_sale(world: World, total: int, paypal: int) -> PaymentBody:
    """So much by PayPal, the rest in cash."""
    if paypal == total:
        return sale_of(total, (TenderBody(kind="paypal", amount_minor=paypal),), 0, 0)
    return _with_cash(world, total, "paypal", paypal)


def _with_cash(world: World, total: int, kind: Literal["paypal", "pin_pad"], minor: int) -> PaymentBody:
    payable, change = _in_cash(world, total - minor)
    tenders = (TenderBody(kind=kind, amount_minor=minor), TenderBody(kind="cash", amount_minor=payable + change))
    return sale_of(total, tenders, change, payable - (total - minor))


def _in_cash(world: World, left_minor: int) -> tuple[int, int]:
    """What is to be paid in cash, rounded as the shop does, and how much change is given."""
    return round_to(left_minor, CASH_ROUNDING_MINOR), world.plan.choice((0, 0, 100, 2_000))


def sale_of(total: int, tenders: tuple[TenderBody, ...], change: int, rounding: int) -> PaymentBody:
    return PaymentBody(
        currency=CURRENCY,
        tenders=tenders,
        amount_minor=total,
        change_minor=change,
        rounding_minor=rounding,
    )


def sell(world: World, body: PaymentBody, *, till: Till | None = None, patience_ms: int | None = None) -> RequestKey:
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
    body, key = _other_tender(world, total_of(world.books.sales[of[-1]])), till.new_key()
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
    if draw < 0.5:
        return mixed_sale(world, total)
    if draw < 0.6:
        return paypal_sale(world, total, total)
    return card_sale(world, DECLINED_CARD if draw > 0.8 else None, total)

"""The twin's readers behave as Stripe's published pages say, seen through the real SDK; each test names its page.

Page, where not said otherwise: "Collect card payments", docs.stripe.com/terminal/payments/collect-card-payment with
terminal-sdk-platform=server-driven. "Assumed" marks what no page says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import stripe

from tests.fakes.clock import FakeClock
from tests.stripe_twin_here import TwinHere


@pytest.fixture
async def twin() -> AsyncIterator[TwinHere]:
    async with TwinHere() as here:
        yield here


async def intent(twin: TwinHere, **more: Any) -> stripe.PaymentIntent:
    asked: Any = {"amount": 1000, "currency": "eur", "allowed_payment_method_types": ["card_present"], **more}
    return await twin.sdk().v1.payment_intents.create_async(asked)


async def process(twin: TwinHere, reader: str, payment: str, **config: Any) -> stripe.terminal.Reader:
    asked: Any = {"payment_intent": payment, "process_config": config}
    return await twin.sdk().v1.terminal.readers.process_payment_intent_async(reader, asked)


async def present(twin: TwinHere, reader: str, **more: Any) -> stripe.terminal.Reader:
    shown: Any = more
    return await twin.sdk().v1.test_helpers.terminal.readers.present_payment_method_async(reader, shown)


async def action(twin: TwinHere, reader: str) -> Any:
    return (await twin.sdk().v1.terminal.readers.retrieve_async(reader)).action


async def status(twin: TwinHere, payment: str) -> str:
    return (await twin.sdk().v1.payment_intents.retrieve_async(payment)).status


async def test_a_reader_is_busy_with_a_payment_until_a_card_is_shown(twin: TwinHere) -> None:
    """ "Process the payment" and "Use the reader object"; "Simulated card presentment" of the page
    "Test Stripe Terminal", docs.stripe.com/terminal/references/testing."""
    reader = await twin.reader()
    payment = await intent(twin)
    begun = await process(twin, reader, payment.id)
    assert begun.action is not None
    assert (begun.action.status, begun.action.type) == ("in_progress", "process_payment_intent")
    assert await status(twin, payment.id) == "requires_payment_method"
    ended = await present(twin, reader)
    assert ended.action is not None
    assert (ended.action.status, ended.action.failure_code) == ("succeeded", None)
    assert await status(twin, payment.id) == "succeeded"
    assert twin.kept_minor() == 1000


async def test_manual_capture_leaves_an_authorisation_that_lapses_after_two_days(twin: TwinHere) -> None:
    """ "Capture the payment": "You must manually capture PaymentIntents within two days or the authorization expires".
    That it is then `canceled` is assumed."""
    reader = await twin.reader(does="approve")
    kept, lost = await intent(twin, capture_method="manual"), await intent(twin, capture_method="manual")
    for payment in (kept, lost):
        await process(twin, reader, payment.id)
        assert await status(twin, payment.id) == "requires_capture"
    await twin.sdk().v1.payment_intents.capture_async(kept.id)
    assert isinstance(twin.clock, FakeClock)
    twin.clock.pass_time(2 * 24 * 3_600_000)
    assert await status(twin, lost.id) == "canceled"
    assert await status(twin, kept.id) == "succeeded"


async def test_a_declined_card_fails_the_action_and_the_same_payment_can_be_tried_again(twin: TwinHere) -> None:
    """ "Payment failures", "Avoiding double charges"; cards of docs.stripe.com/terminal/references/testing"""
    reader = await twin.reader()
    payment = await intent(twin)
    await process(twin, reader, payment.id)
    await present(twin, reader, type="card_present", card_present={"number": "4000000000009995"})
    failed = await action(twin, reader)
    assert (failed.status, failed.failure_code) == ("failed", "card_declined")
    assert failed.failure_message == "Your card has insufficient funds."
    read = await twin.sdk().v1.payment_intents.retrieve_async(payment.id)
    assert read.status == "requires_payment_method"
    assert read.last_payment_error is not None
    assert read.last_payment_error.decline_code == "insufficient_funds"
    await process(twin, reader, payment.id)
    await present(twin, reader)
    assert twin.kept_minor() == 1000


async def test_a_payment_nobody_showed_a_card_for_is_replaced(twin: TwinHere) -> None:
    """ "Reader busy": "Payments that have not begun processing can be replaced with a new payment." """
    reader = await twin.reader()
    first, second = await intent(twin), await intent(twin)
    await process(twin, reader, first.id)
    await process(twin, reader, second.id)
    await present(twin, reader)
    assert await status(twin, first.id) == "requires_payment_method"
    assert await status(twin, second.id) == "succeeded"


async def test_while_the_bank_is_asked_nothing_is_replaced_or_cancelled(twin: TwinHere) -> None:
    """ "Reader busy" and "Programmatic cancellation"; the status 400 is assumed, the page shows the body alone"""
    reader = await twin.reader(does="approve", authorise_ms=5_000)
    payment, other = await intent(twin), await intent(twin)
    await process(twin, reader, payment.id)
    for attempt in (
        process(twin, reader, other.id),
        twin.sdk().v1.terminal.readers.cancel_action_async(reader),
    ):
        with pytest.raises(stripe.InvalidRequestError) as busy:
            await attempt
        assert (busy.value.code, busy.value.http_status) == ("terminal_reader_busy", 400)
    assert isinstance(twin.clock, FakeClock)
    twin.clock.pass_time(5_000)
    assert await status(twin, payment.id) == "succeeded"


async def test_a_cancelled_action_leaves_the_payment_as_it_was(twin: TwinHere) -> None:
    """docs.stripe.com/api/terminal/readers/cancel_action; no webhook tells of it ("Webhook events")"""
    reader = await twin.reader()
    twin.hook()
    payment = await intent(twin)
    await process(twin, reader, payment.id)
    reset = await twin.sdk().v1.terminal.readers.cancel_action_async(reader)
    assert reset.action is None
    assert await status(twin, payment.id) == "requires_payment_method"
    assert await twin.deliver() == 0


async def test_a_customer_cancels_where_the_button_is_shown(twin: TwinHere) -> None:
    """ "Customer-initiated cancellation" """
    reader = await twin.reader(does="cancel")
    payment = await intent(twin)
    await process(twin, reader, payment.id)
    assert (await action(twin, reader)).status == "in_progress"
    await process(twin, reader, payment.id, enable_customer_cancellation=True)
    failed = await action(twin, reader)
    assert (failed.status, failed.failure_code) == ("failed", "customer_canceled")


@pytest.mark.parametrize("verb", ["process", "cancel", "present"])
async def test_a_reader_that_is_offline_takes_no_command(twin: TwinHere, verb: str) -> None:
    """ "Reader offline": any API method on it; the status 400 is assumed"""
    reader = await twin.reader(reaches="no")
    payment = await intent(twin)
    attempts: dict[str, Callable[[], Awaitable[object]]] = {
        "process": lambda: process(twin, reader, payment.id),
        "cancel": lambda: twin.sdk().v1.terminal.readers.cancel_action_async(reader),
        "present": lambda: present(twin, reader),
    }
    with pytest.raises(stripe.InvalidRequestError) as offline:
        await attempts[verb]()
    assert offline.value.code == "terminal_reader_offline"
    assert (await twin.sdk().v1.terminal.readers.retrieve_async(reader)).status == "offline"


async def test_a_command_that_timed_out_may_have_been_heard(twin: TwinHere) -> None:
    """ "Reader timeout": the code can be a false negative"""
    reader = await twin.reader(does="approve", reaches="unheard")
    payment = await intent(twin)
    with pytest.raises(stripe.InvalidRequestError) as unheard:
        await process(twin, reader, payment.id)
    assert unheard.value.code == "terminal_reader_timeout"
    assert await status(twin, payment.id) == "succeeded"


async def test_a_reader_whose_line_broke_says_failed_though_the_card_was_charged(twin: TwinHere) -> None:
    """ "Payment timeout": connection_error, and the confirmation "might have been processed" """
    reader = await twin.reader(does="lose_line")
    payment = await intent(twin)
    await process(twin, reader, payment.id)
    failed = await action(twin, reader)
    assert (failed.status, failed.failure_code) == ("failed", "connection_error")
    assert await status(twin, payment.id) == "succeeded"


async def test_a_reader_that_vanished_stays_in_progress(twin: TwinHere) -> None:
    """ "Missing webhooks": it cannot update its action, and no webhook of it comes"""
    reader = await twin.reader(does="vanish")
    twin.hook()
    payment = await intent(twin)
    await process(twin, reader, payment.id)
    assert (await action(twin, reader)).status == "in_progress"
    assert await status(twin, payment.id) == "succeeded"
    await twin.deliver()
    assert not any(b"terminal.reader" in body for body, _ in twin.received)


@pytest.mark.parametrize("end", ["cancel", "charge"])
async def test_a_reader_takes_only_a_payment_that_needs_a_card(twin: TwinHere, end: str) -> None:
    """ "Avoiding double charges": intent_invalid_state"""
    reader = await twin.reader(does="approve")
    payment = await intent(twin)
    if end == "cancel":
        await twin.sdk().v1.payment_intents.cancel_async(payment.id)
    else:
        await process(twin, reader, payment.id)
        twin.twin.happen()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await process(twin, reader, payment.id)
    assert refused.value.code == "intent_invalid_state"


@pytest.mark.parametrize(("skips", "tip", "amount"), [(False, 150, 1150), (False, 0, 1000), (True, None, 1000)])
async def test_a_tip_on_the_reader_is_part_of_the_amount(
    twin: TwinHere, skips: bool, tip: int | None, amount: int
) -> None:
    """ "Collect on-reader tips", docs.stripe.com/terminal/features/collecting-tips/on-reader: amount_details.tip.amount
    is null, 0 or what was chosen, and the amount includes it; amount_tip of present_payment_method in
    docs.stripe.com/api/terminal/readers/present_payment_method"""
    reader = await twin.reader()
    payment = await intent(twin)
    await process(twin, reader, payment.id, skip_tipping=skips)
    await present(twin, reader, amount_tip=150 if tip is None else tip)
    read = await twin.sdk().v1.payment_intents.retrieve_async(payment.id)
    assert read.amount == read.amount_received == amount
    assert read.amount_details is not None
    assert (read.amount_details.to_dict().get("tip") or {}).get("amount") == tip


async def test_readers_are_listed_and_a_strange_one_is_not_there(twin: TwinHere) -> None:
    """docs.stripe.com/api/terminal/readers/list and /retrieve"""
    reader = await twin.reader()
    listed = await twin.sdk().v1.terminal.readers.list_async()
    assert [each.id for each in listed.data] == [reader]
    with pytest.raises(stripe.InvalidRequestError) as missing:
        await twin.sdk().v1.terminal.readers.retrieve_async("tmr_of_nobody")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


async def test_the_display_is_an_action_that_is_over_at_once(twin: TwinHere) -> None:
    """docs.stripe.com/api/terminal/readers/set_reader_display"""
    reader = await twin.reader()
    cart: Any = {"type": "cart", "cart": {"currency": "eur", "line_items": [], "total": 1000}}
    shown = await twin.sdk().v1.terminal.readers.set_reader_display_async(reader, cart)
    assert shown.action is not None
    assert (shown.action.type, shown.action.status) == ("set_reader_display", "succeeded")

"""The twin's webhooks, search and accounts behave as Stripe's published pages say; each test names its page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import stripe

from tests.fakes.clock import FakeClock
from tests.stripe_twin_here import SECRET, TwinHere

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


@pytest.fixture
async def twin() -> AsyncIterator[TwinHere]:
    async with TwinHere() as here:
        yield here


def pass_time(twin: TwinHere, duration_ms: int) -> None:
    assert isinstance(twin.clock, FakeClock)
    twin.clock.pass_time(duration_ms)


async def pay(twin: TwinHere, **more: Any) -> stripe.PaymentIntent:
    asked: Any = {"amount": 1000, "currency": "eur", "confirm": True, "payment_method": "pm_card_visa", **more}
    return await twin.sdk().v1.payment_intents.create_async(asked)


def kinds(twin: TwinHere) -> list[str]:
    return [json.loads(body)["type"] for body, _ in twin.received]


async def test_a_webhook_carries_the_event_signed_over_time_and_body(twin: TwinHere) -> None:
    """ "Receive Stripe events in your webhook endpoint", docs.stripe.com/webhooks; verified by the SDK itself"""
    twin.hook()
    payment = await pay(twin)
    assert await twin.deliver() == 1
    ((body, headers),) = twin.received
    stripe.WebhookSignature.verify_header(body, headers["Stripe-Signature"], SECRET)
    event = json.loads(body)
    assert (event["object"], event["type"]) == ("event", "payment_intent.succeeded")
    assert event["data"]["object"]["id"] == payment.id
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(body + b" ", headers["Stripe-Signature"], SECRET)


async def test_what_is_not_taken_is_sent_again_with_a_new_signature_for_three_days(twin: TwinHere) -> None:
    """docs.stripe.com/webhooks, "Automatic retries": up to three days, exponential back off; the pauses are assumed"""
    twin.hook()
    twin.status = 500
    await pay(twin)
    await twin.deliver()
    assert await twin.deliver() == 0
    pass_time(twin, MINUTE_MS)
    assert await twin.deliver() == 1
    (first, first_headers), (second, second_headers) = twin.received
    assert first == second
    assert first_headers["Stripe-Signature"] != second_headers["Stripe-Signature"]
    for _ in range(40):
        pass_time(twin, DAY_MS // 4)
        await twin.deliver()
    sent = len(twin.received)
    pass_time(twin, DAY_MS)
    assert await twin.deliver() == 0
    assert len(twin.received) == sent < 20


async def test_events_may_come_in_another_order_and_twice(twin: TwinHere) -> None:
    """docs.stripe.com/webhooks, "Event ordering" and "Handle duplicate events" """
    twin.hook(is_held=True)
    payment = await pay(twin)
    await twin.sdk().v1.refunds.create_async({"payment_intent": payment.id})
    assert await twin.deliver() == 0
    twin.hook(order="reversed", copies=2)
    await twin.deliver()
    assert kinds(twin) == ["refund.created"] * 2 + ["payment_intent.succeeded"] * 2


async def test_each_end_of_a_payment_and_of_an_action_is_an_event(twin: TwinHere) -> None:
    """docs.stripe.com/api/events/types"""
    twin.hook()
    reader = await twin.reader(does="approve")
    payment = await twin.sdk().v1.payment_intents.create_async(
        {"amount": 1000, "currency": "eur", "allowed_payment_method_types": ["card_present"]}
    )
    await twin.sdk().v1.terminal.readers.process_payment_intent_async(reader, {"payment_intent": payment.id})
    held = await pay(twin, capture_method="manual")
    await twin.sdk().v1.payment_intents.cancel_async(held.id)
    with pytest.raises(stripe.CardError):
        await pay(twin, payment_method="pm_card_visa_chargeDeclined")
    await twin.deliver()
    assert kinds(twin) == [
        "payment_intent.succeeded",
        "terminal.reader.action_succeeded",
        "payment_intent.amount_capturable_updated",
        "payment_intent.canceled",
        "payment_intent.payment_failed",
    ]


async def test_search_shows_how_things_stood_a_minute_ago(twin: TwinHere) -> None:
    """ "Search PaymentIntents", docs.stripe.com/api/payment_intents/search: not for read-after-write"""
    payment = await pay(twin, metadata={"tillstone_key": "k"}, capture_method="manual")

    async def found(query: str) -> list[tuple[str, str]]:
        result = await twin.sdk().v1.payment_intents.search_async({"query": query})
        return [(each.id, each.status) for each in result.data]

    ours = "metadata['tillstone_key']:'k'"
    assert await found(ours) == []
    pass_time(twin, MINUTE_MS)
    assert await found(ours) == [(payment.id, "requires_capture")]
    await twin.sdk().v1.payment_intents.capture_async(payment.id)
    assert await found(f"{ours} AND status:'succeeded'") == []
    pass_time(twin, MINUTE_MS)
    assert await found(f"{ours} AND status:'succeeded'") == [(payment.id, "succeeded")]
    with pytest.raises(stripe.InvalidRequestError):
        await found("amount>10")


async def test_a_key_tells_its_account_and_sees_no_other(twin: TwinHere) -> None:
    """ "Retrieve account", docs.stripe.com/api/accounts/retrieve: without a name, the account of the key"""
    ours = await twin.sdk().v1.accounts.retrieve_current_async()
    strangers = await twin.sdk("sk_test_ofAstranger").v1.accounts.retrieve_current_async()
    assert ours.id.startswith("acct_")
    assert strangers.id != ours.id
    payment = await pay(twin)
    with pytest.raises(stripe.InvalidRequestError):
        await twin.sdk("sk_test_ofAstranger").v1.payment_intents.retrieve_async(payment.id)
    with pytest.raises(stripe.PermissionError):
        await twin.sdk("rk_test_blind").v1.accounts.retrieve_current_async()


async def test_an_outage_of_days_ends_by_itself(twin: TwinHere) -> None:
    from provisioning.sandbox.stripe_twin_faults import FaultScript, Outage

    script = FaultScript()
    script.set_outage(Outage(is_on=True, for_ms=3 * DAY_MS), 0)
    assert script.take("GET", "/v1/refunds", 3 * DAY_MS - 1) is not None
    assert script.take("GET", "/v1/refunds", 3 * DAY_MS) is None

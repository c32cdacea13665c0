"""What comes to the door as Coinbase's: genuine, forged, late, about a payment, about a refund."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from appliance.adapters.coinbase_webhook import TOLERANCE_S, CoinbaseWebhooks
from appliance.config.secret import Secret
from appliance.model.errors import Rejected
from appliance.ports.hint import Hint
from appliance.ports.provider import Confirmed, Offered
from provisioning.sandbox.coinbase_twin_events import headers_for
from tests.coinbase_twin_here import WEBHOOK_SECRET, CoinbaseHere
from tests.fakes.clock import FakeClock, SkippingClock
from tests.integration.test_coinbase import payment
from tests.integration.test_coinbase_refunds import refund

NOW_S = FakeClock().now_ms() // 1000
BODY = json.dumps(
    {
        "id": "69163c762331ed43dc64a6ef",
        "amount": "100.00",
        "currency": "USDC",
        "eventType": "checkout.payment.success",
        "metadata": {"tillstone_log": "shop.example/box-1/1", "tillstone_operation": "key/0"},
        "status": "COMPLETED",
        "createdAt": "2025-11-13T20:15:49.329Z",
        "updatedAt": "2025-11-13T20:16:55.097Z",
    }
).encode()
HEADERS = headers_for(WEBHOOK_SECRET, NOW_S, "evt_1", "checkout.payment.success", BODY)


def read(body: bytes, headers: dict[str, str], *, later_s: int = 0, secret: str = WEBHOOK_SECRET) -> Hint:
    clock = FakeClock()
    clock.pass_time(later_s * 1000)
    return CoinbaseWebhooks(secret=Secret(secret.encode()), clock=clock).read(body, headers)


def refused(body: bytes, headers: dict[str, str], **more: Any) -> str:
    with pytest.raises(Rejected) as refusal:
        read(body, headers, **more)
    return refusal.value.code


async def test_what_the_twin_sends_is_believed_and_names_our_payment_and_our_refund() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        here.hook()
        operation = payment()

        async def show(offered: Offered) -> None:
            here.pay(offered.provider_reference)

        done = await here.provider().authorise(replace(operation, show=show))
        assert isinstance(done, Confirmed)
        back = refund(done.provider_reference, 500)
        await here.provider().refund(back)
        assert await here.deliver() == 2
        reader = CoinbaseWebhooks(secret=Secret(WEBHOOK_SECRET.encode()), clock=here.clock)
        paid, given = (reader.read(body, headers) for body, headers in here.received)
        names = operation.reference
        assert (paid.reference, paid.says_paid) == (done.provider_reference, True)
        assert (paid.log_origin, paid.operation) == (names.log_origin, names.operation_id)
        assert (given.reference, given.says_paid) == (done.provider_reference, False)
        assert (given.log_origin, given.operation) == (back.reference.log_origin, back.reference.operation_id)
        assert paid.event != given.event


async def test_an_expired_checkout_is_told_and_sent_again_until_it_is_taken() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        here.hook(copies=2)
        here.status = 503
        session = here.session()
        await session.ask("POST", "/api/v1/checkouts", body={"amount": "1.00", "currency": "EUR"})
        await session.close()
        await here.clock.sleep(3_600_000)
        assert await here.deliver() == 2
        here.status = 200
        await here.clock.sleep(10_000)
        assert await here.deliver() == 2
        assert await here.deliver() == 0
        events = [json.loads(body) for body, _ in here.received]
        assert {(each["eventType"], each["status"]) for each in events} == {("checkout.payment.expired", "EXPIRED")}


def test_the_page_s_own_example_is_read() -> None:
    hint = read(BODY, HEADERS)
    assert (hint.reference, hint.says_paid) == ("69163c762331ed43dc64a6ef", True)
    assert read(BODY, HEADERS).event == hint.event


@pytest.mark.parametrize(
    "change",
    [
        {"x-event-type": "checkout.payment.failed"},  # a header that was signed
        {"content-type": "text/plain"},
        {"x-hook0-signature": ""},
        {"x-hook0-signature": f"t={NOW_S},v1={'0' * 64}"},
        {"x-hook0-signature": HEADERS["x-hook0-signature"].replace(f"t={NOW_S}", f"t={NOW_S + 1}")},
        {"x-hook0-signature": HEADERS["x-hook0-signature"].replace("h=content-type ", "h=")},
        {"x-hook0-signature": HEADERS["x-hook0-signature"].partition(",h=")[0]},  # v0 alone covers no header
        {"x-hook0-signature": HEADERS["x-hook0-signature"] + ",t=1"},
        {"x-hook0-signature": HEADERS["x-hook0-signature"].replace("v1=", "v1=\u00e9")},
    ],
)
def test_whatever_was_changed_is_forged(change: dict[str, str]) -> None:
    assert refused(BODY, {**HEADERS, **change}) == "webhook_forged"


def test_another_body_and_another_secret_are_forged() -> None:
    assert refused(BODY.replace(b"100.00", b"900.00"), HEADERS) == "webhook_forged"
    assert refused(BODY, HEADERS, secret="of-another-subscription") == "webhook_forged"


@pytest.mark.parametrize(("later_s", "code"), [(TOLERANCE_S, ""), (TOLERANCE_S + 1, "webhook_late")])
def test_what_was_recorded_is_not_replayed_later(later_s: int, code: str) -> None:
    if code:
        assert refused(BODY, HEADERS, later_s=later_s) == code
    else:
        assert read(BODY, HEADERS, later_s=later_s).says_paid


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", BODY.replace(b"69163c762331ed43dc64a6ef", b"../../refund")])
def test_what_is_genuine_and_no_event_is_malformed(body: bytes) -> None:
    headers = headers_for(WEBHOOK_SECRET, NOW_S, "evt_1", "checkout.payment.success", body)
    assert refused(body, headers) == "webhook_malformed"

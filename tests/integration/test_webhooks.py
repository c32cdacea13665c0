"""What comes to the relay's door: genuine, replayed, reordered, late, forged, foreign, huge, slow: nothing moves money.

Signatures are made by the twin and, once, by the real SDK.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import stripe
from aiohttp import web

from appliance.adapters.stripe_webhook import TOLERANCE_S, StripeWebhooks
from appliance.api import webhook_door
from appliance.api.failures import Failures
from appliance.api.middleware import make_middleware
from appliance.api.webhook_door import WebhookDoor
from appliance.config.secret import Secret
from appliance.device.health import Level
from appliance.model.errors import Unavailable
from appliance.model.ids import ProviderReference
from appliance.model.limits import HOUR_MS, WEBHOOK_BYTES_MAX, WEBHOOKS_WAITING_MAX
from appliance.model.money import Money
from appliance.model.operation import FIRST_PROVIDER, Operation
from appliance.payment.webhooks import Webhooks
from appliance.ports.provider import Absent, Confirmed, Declined, Found, PartlyConfirmed, Unknown
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.wiring.hooks import webhook_finding
from provisioning.sandbox.stripe_twin_events import signature
from provisioning.sandbox.webhook_relay import Relay as PassingOn
from tests.fakes.provider import Switch
from tests.unit.payment.shop import Shop, open_shop
from tests.until import until

SECRET = "whsec_ofATestThatSignsIt"
CARD = {"kind": "card", "amount_minor": 500, "source": "pm_card_visa"}
SALE = {"currency": "EUR", "amount_minor": 500, "tenders": [CARD]}


@dataclass
class Relay:
    """The box's door as a relay sees it; `counted` is what the metric counts, `hurried` whom it made look.

    `books` says, last, what the provider answers when it is asked again.
    """

    shop: Shop
    webhooks: Webhooks
    url: str
    http: aiohttp.ClientSession
    counted: list[str]
    hurried: list[str]
    awaited: set[str] = field(default_factory=set)
    books: list[Found | Absent | Unknown] = field(default_factory=list)

    def event(self, name: str = "evt_1", kind: str = "payment_intent.succeeded", **about: Any) -> bytes:
        payment = {"id": "pi_1", "object": "payment_intent", "metadata": {}, **about}
        body = {"id": name, "object": "event", "type": kind, "livemode": False, "data": {"object": payment}}
        return json.dumps(body).encode()

    def ours(self, key: str, **about: Any) -> bytes:
        names = {"tillstone_log": self.shop.audience, "tillstone_operation": f"{key}/0"}
        return self.event(metadata=names, **about)

    def signed(self, body: bytes, *, late_s: int = 0, secret: str = SECRET) -> str:
        return signature(secret, self.shop.clock.now_ms() // 1000 - late_s, body)

    async def post(self, body: bytes, header: str | None) -> tuple[int, dict[str, Any]]:
        headers = {} if header is None else {"Stripe-Signature": header}
        async with self.http.post(self.url, data=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def send(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Post it as Stripe would, and let it be looked into."""
        answer = await self.post(body, self.signed(body))
        await asyncio.sleep(0)
        return answer

    async def until(self, *outcomes: str) -> None:
        """Wait until exactly these were counted, in any order."""
        await until(f"as many counts as {outcomes}", lambda: len(self.counted) >= len(outcomes))
        assert sorted(self.counted) == sorted(outcomes)


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    async with open_shop(tmp_path) as shop, aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        log, metrics = Log(sink=lambda _line: None, clock=shop.clock), Metrics()
        counted: list[str] = []
        hurried: list[str] = []
        awaited: set[str] = set()

        def hurry(reference: ProviderReference) -> bool:
            if reference in awaited:
                hurried.append(reference)
            return reference in awaited

        books: list[Found | Absent | Unknown] = []

        async def find(_operation: Operation, _reference: ProviderReference) -> Found | Absent | Unknown:
            return books[-1]

        webhooks = Webhooks(
            reader=StripeWebhooks(secret=Secret(SECRET.encode()), is_live=False, clock=shop.clock),
            log_origin=shop.audience,
            provider=FIRST_PROVIDER,
            hurry=hurry,
            find=find,
            resolver=shop.resolver,
            ledger=shop.ledger,
            clock=shop.clock,
            log=log,
            count=counted.append,
        )
        failures = Failures(clock=shop.clock, log=log, metrics=metrics, on_corrupt=lambda _why: None)
        door = WebhookDoor(provider=FIRST_PROVIDER, webhooks=webhooks, clock=shop.clock)
        runner = web.AppRunner(door.application(make_middleware(failures=failures, metrics=metrics)))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/webhooks/stripe"
        looking = group.create_task(webhooks.run())
        yield Relay(shop, webhooks, url, http, counted, hurried, awaited, books)
        looking.cancel()
        await runner.cleanup()


async def sell(shop: Shop) -> str:
    request = shop.request("payment", SALE)
    await shop.pipeline.pay(request)
    await shop.works_done()
    return request.claims.key


async def entries(shop: Shop) -> int:
    return shop.ledger.head.size


async def test_a_genuine_webhook_makes_whoever_waits_look_at_once(relay: Relay) -> None:
    relay.awaited.add("pi_1")
    assert await relay.send(relay.event()) == (200, {"received": True})
    await relay.until("hurried")
    assert relay.hurried == ["pi_1"]


async def test_a_readers_event_rings_for_the_payment_that_it_carries(relay: Relay) -> None:
    relay.awaited.add("pi_7")
    action = {"type": "process_payment_intent", "process_payment_intent": {"payment_intent": "pi_7"}}
    await relay.send(relay.event(kind="terminal.reader.action_succeeded", id="tmr_1", action=action))
    await relay.until("hurried")
    assert relay.hurried == ["pi_7"]


async def test_an_open_payment_is_read_from_the_provider_sooner_and_never_settled_by_the_webhook(relay: Relay) -> None:
    shop = relay.shop
    shop.provider.strike(Switch.FAIL_BEFORE)  # it never arrived: a webhook that says "paid" is a lie
    key = await sell(shop)
    await shop.resolver.look()
    size = await entries(shop)
    await relay.send(relay.ours(key))
    await relay.until("hurried")
    await shop.resolver.look()
    assert await entries(shop) == size
    assert await shop.rows("SELECT state FROM payments") == [("being_checked",)]


async def test_a_webhook_about_an_open_payment_ends_the_resolvers_rest(relay: Relay) -> None:
    shop = relay.shop
    shop.provider.strike(Switch.FAIL_AFTER)
    key = await sell(shop)
    shop.provider.is_reading_down = True
    await shop.resolver.look()
    shop.provider.is_reading_down = False
    await shop.resolver.look()
    assert await shop.rows("SELECT state FROM payments") == [("being_checked",)]  # it rests
    await relay.send(relay.ours(key))
    await relay.until("hurried")
    await shop.resolver.look()
    assert await shop.rows("SELECT state FROM payments") == [("approved",)]


async def test_a_replayed_webhook_is_taken_once(relay: Relay) -> None:
    relay.awaited.add("pi_1")
    body = relay.event()
    for _ in range(3):
        assert (await relay.post(body, relay.signed(body)))[0] == 200
    await relay.until("repeated", "repeated", "hurried")
    assert relay.hurried == ["pi_1"]


async def test_webhooks_in_the_wrong_order_change_nothing(relay: Relay) -> None:
    key = await sell(relay.shop)
    size = await entries(relay.shop)
    await relay.send(relay.ours(key, kind="payment_intent.payment_failed", name="evt_2"))
    await relay.send(relay.ours(key, name="evt_1"))
    await relay.until("settled", "settled")
    assert await entries(relay.shop) == size
    assert await relay.shop.rows("SELECT state FROM payments") == [("approved",)]


async def test_a_late_webhook_is_refused(relay: Relay) -> None:
    body = relay.event()
    status, problem = await relay.post(body, relay.signed(body, late_s=TOLERANCE_S + 1))
    assert (status, problem["code"]) == (400, "webhook_late")
    assert (await relay.post(body, relay.signed(body, late_s=-TOLERANCE_S - 1)))[0] == 400
    assert (await relay.post(body, relay.signed(body, late_s=TOLERANCE_S)))[0] == 200
    assert relay.counted[:2] == ["late", "late"]


@pytest.mark.parametrize("how", ["secret", "body", "missing", "v0", "empty", "time", "twice"])
async def test_a_forged_webhook_is_refused_before_it_is_read(relay: Relay, how: str) -> None:
    body = relay.event()
    good = relay.signed(body)
    header: str | None = {
        "secret": relay.signed(body, secret="whsec_ofSomebodyElse"),
        "body": relay.signed(body + b" "),
        "missing": None,
        "v0": good.replace("v1=", "v0="),
        "empty": "",
        "time": good.replace("t=1", "t=2"),
        "twice": f"t=1,{good}",
    }[how]
    status, problem = await relay.post(body, header)
    assert (status, problem["code"]) == (401, "webhook_forged")
    assert SECRET not in json.dumps(problem)
    assert relay.counted == ["forged"]


async def test_a_signature_of_the_real_sdk_counts_also_beside_others_while_a_secret_is_rolled(relay: Relay) -> None:
    """docs.stripe.com/webhooks: several v1 signatures while a secret is rolled; other schemes are ignored"""
    body = relay.event()
    made = stripe.WebhookSignature.generate_signature_header(
        body.decode(), SECRET, timestamp=relay.shop.clock.now_ms() // 1000
    )
    rolled = f"{made},v1={'0' * 64},v0={'1' * 64}"
    assert (await relay.post(body, rolled))[0] == 200


@pytest.mark.parametrize("whose", ["nobody", "another log", "no operation of ours"])
async def test_a_webhook_about_somebody_elses_payment_is_counted(relay: Relay, whose: str) -> None:
    body = {
        "nobody": relay.event(),
        "another log": relay.event(metadata={"tillstone_log": "other/1/1", "tillstone_operation": "x/0"}),
        "no operation of ours": relay.ours("01890000-0000-7000-8000-000000000000"),
    }[whose]
    size = await entries(relay.shop)
    assert (await relay.send(body))[0] == 200
    await relay.until("idle" if whose == "nobody" else "foreign")
    assert await entries(relay.shop) == size


@pytest.mark.parametrize("read", ["paid", "partly", "declined", "nothing"])
async def test_a_webhook_that_contradicts_the_log_is_read_again_alarmed_and_changes_no_payment(
    relay: Relay, read: str
) -> None:
    shop = relay.shop
    request = shop.request("payment", {**SALE, "tenders": [{**CARD, "source": "pm_card_chargeDeclinedExpiredCard"}]})
    await shop.pipeline.pay(request)
    await shop.works_done()
    size = await entries(shop)
    reference = ProviderReference("pi_1")
    paid = Confirmed(provider_reference=reference, amount=Money(500, "EUR"), confirmed_ms=1)
    truths: dict[str, Found | Unknown] = {
        "paid": Found(answer=paid),
        "partly": Found(answer=PartlyConfirmed(provider_reference=reference, amount=Money(350, "EUR"), confirmed_ms=1)),
        "declined": Found(answer=Declined(code="expired_card", message="The card has expired.")),
        "nothing": Unknown(reason="connection_lost"),
    }
    relay.books.append(truths[read])
    await relay.send(relay.ours(request.claims.key))
    outcome = {"paid": "contradicts", "partly": "contradicts", "declined": "settled", "nothing": "unread"}[read]
    await relay.until(outcome)
    assert await entries(shop) == size + (read in ("paid", "partly"))  # what came is written down
    assert await shop.rows("SELECT state FROM payments") == [("declined",)]
    told = {"paid": [(500,)], "partly": [(350,)]}.get(read, [])
    assert await shop.rows("SELECT amount FROM contradictions") == told
    finding = webhook_finding(relay.webhooks.alarms())
    assert (finding.level is Level.OK) is (read == "declined")
    assert (f"{outcome} 1" in finding.sentence) is (read != "declined")


@pytest.mark.parametrize("is_announced", [True, False])
async def test_a_huge_webhook_is_not_read(relay: Relay, is_announced: bool) -> None:
    huge = b" " * (WEBHOOK_BYTES_MAX + 1)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(huge), 65_536):
            yield huge[start : start + 65_536]

    data: Any = huge if is_announced else pieces()
    async with relay.http.post(relay.url, data=data, headers={"Stripe-Signature": "t=1"}) as answer:
        assert answer.status == 413
    assert relay.counted == ["too_large"]


async def test_a_slow_webhook_is_not_waited_for(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_door, "BODY_S_MAX", 0.05)
    ends = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"{"
        await ends.wait()

    async with relay.http.post(relay.url, data=pieces(), headers={"Stripe-Signature": "t=1"}) as answer:
        assert answer.status == 400
    ends.set()
    assert relay.counted == ["slow"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"id":"evt_1"}', b"\xff", b"[" * 100_000])
async def test_genuine_bytes_that_are_no_event_are_refused(relay: Relay, body: bytes) -> None:
    status, problem = await relay.post(body, relay.signed(body))
    assert (status, problem["code"]) == (400, "webhook_malformed")
    assert relay.counted == ["malformed"]


async def test_a_live_event_never_reaches_a_test_key(relay: Relay) -> None:
    body = relay.event().replace(b'"livemode": false', b'"livemode": true')
    assert (await relay.post(body, relay.signed(body)))[0] == 400


async def test_more_than_fits_is_refused_and_may_come_again(relay: Relay) -> None:
    def take(number: int) -> None:
        body = relay.event(name=f"evt_{number}")
        relay.webhooks.take(body, {"stripe-signature": relay.signed(body)})

    # Without an await nothing is looked into meanwhile.
    for number in range(WEBHOOKS_WAITING_MAX):
        take(number)
    with pytest.raises(Unavailable, match="webhooks_busy"):
        take(WEBHOOKS_WAITING_MAX)
    await relay.until("dropped", *["idle"] * WEBHOOKS_WAITING_MAX)
    take(WEBHOOKS_WAITING_MAX)
    await relay.until("dropped", *["idle"] * (WEBHOOKS_WAITING_MAX + 1))


async def test_a_relay_passes_bytes_and_signature_on_and_answers_what_the_box_answered(relay: Relay) -> None:
    async def through(to: str, body: bytes, header: str) -> int:
        application = web.Application()
        application.router.add_post("/stripe", PassingOn(to=to, http=relay.http).pass_on)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/stripe"
        async with relay.http.post(url, data=body, headers={"Stripe-Signature": header}) as answer:
            status = answer.status
        await runner.cleanup()
        return status

    body = b" " + relay.event() + b"\n"  # whoever parses and prints it again breaks the signature
    assert await through(relay.url, body, relay.signed(body)) == 200
    assert await through(relay.url, body, "t=1,v1=" + "0" * 64) == 401
    assert await through("http://127.0.0.1:9/nobody", body, relay.signed(body)) == 502  # so Stripe sends it again


async def test_an_alarm_is_over_after_an_hour(relay: Relay) -> None:
    await relay.post(b"{}", None)
    assert webhook_finding(relay.webhooks.alarms()).level is Level.COPING
    relay.shop.clock.pass_time(HOUR_MS + 1)
    assert webhook_finding(relay.webhooks.alarms()).level is Level.OK

"""PayPal's adapter on the twin: what customers do, what answers that are lost or lie mean, and what never leaves."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from appliance.adapters.decimal_value import is_value_of
from appliance.adapters.paypal import PayPalProvider
from appliance.adapters.paypal_money import value_for_paypal
from appliance.adapters.paypal_session import PayPalSession, PayPalSettings
from appliance.adapters.provider_http import Reply, leads_to
from appliance.config.secret import Secret
from appliance.model.errors import Rejected
from appliance.model.ids import ProviderKey, ProviderReference
from appliance.model.money import Money
from appliance.ports.clock import Clock
from appliance.ports.provider import (
    Absent,
    Authorise,
    Basis,
    CardSource,
    Confirmed,
    Declined,
    Found,
    NotSent,
    Offer,
    Offered,
    Refund,
    Refused,
    Unknown,
)
from provisioning.sandbox.stripe_twin_faults import Fault, FaultName
from tests.contract.test_provider import reference
from tests.fakes.clock import FakeClock, SkippingClock
from tests.paypal_twin_here import CLIENT, SECRET, PayPalHere
from tests.until import until


def offer(amount_minor: int = 1250, currency: str = "EUR") -> Offer:
    names = reference()
    key = ProviderKey(names.operation_id)
    return Offer(provider_key=key, reference=names, amount=Money(amount_minor, currency))


def taking(made: Offer, of: ProviderReference) -> Authorise:
    key = ProviderKey(f"{made.provider_key}/1")
    return Authorise(provider_key=key, reference=made.reference, amount=made.amount, source=CardSource(""), of=of)


async def offered(here: PayPalHere, operation: Offer, funding: str = "good") -> ProviderReference:
    made = await here.provider().offer(operation)
    assert isinstance(made, Offered), made
    if funding:
        here.agree(made.provider_reference, funding)
    return made.provider_reference


async def test_the_customer_is_sent_to_paypal_and_nothing_is_taken_before_our_capture() -> None:
    async with PayPalHere() as here:
        operation = offer()
        made = await here.provider().offer(operation)
        assert isinstance(made, Offered)
        assert made.show == f"{here.base}/checkoutnow?token={made.provider_reference}"
        here.agree(made.provider_reference)
        agreed = await here.provider().await_customer(operation, made.provider_reference)
        assert agreed == Confirmed(
            provider_reference=made.provider_reference, amount=operation.amount, confirmed_ms=here.clock.now_ms()
        )
        assert here.kept_minor() == 0
        assert isinstance(await here.provider().authorise(taking(operation, made.provider_reference)), Confirmed)
        assert here.kept_minor() == 1250


async def test_a_customer_who_never_agrees_is_declined_when_the_time_is_over() -> None:
    async with PayPalHere(SkippingClock()) as here:
        operation = offer()
        of = await offered(here, operation, "")
        answer = await here.provider().await_customer(operation, of)
        assert isinstance(answer, Declined)
        assert answer.code == "customer_timeout"


async def test_waiting_ends_when_the_till_gives_up_and_is_hurried_by_a_webhook() -> None:
    async with PayPalHere() as here, asyncio.TaskGroup() as group:  # a clock that stands: only a bell ends a nap
        provider = here.provider()
        first, second = offer(), offer()
        left, agreed = await offered(here, first, ""), await offered(here, second, "")
        waiting = [
            group.create_task(provider.await_customer(first, left)),
            group.create_task(provider.await_customer(second, agreed)),
        ]
        await until("both customers waited for", lambda: provider.hurry(left) and provider.hurry(agreed))
        here.agree(agreed)
        provider.hurry(agreed)
        provider.give_up(first.provider_key)
        assert isinstance(await waiting[1], Confirmed)
        answer = await waiting[0]
        assert isinstance(answer, Declined)
        assert answer.code == "payment_aborted"
        assert not provider.hurry(left)


async def test_whoever_is_given_up_while_his_order_is_made_is_not_waited_for() -> None:
    async with PayPalHere(FakeClock()) as here:
        operation = offer()
        of = await offered(here, operation, "")
        provider = here.provider()
        provider.give_up(operation.provider_key)
        async with asyncio.timeout(10):
            answer = await provider.await_customer(operation, of)
        assert isinstance(answer, Declined)
        assert answer.code == "payment_aborted"


async def test_whoever_agreed_and_was_left_behind_for_too_long_is_not_charged() -> None:
    clock = FakeClock()
    async with PayPalHere(clock) as here:
        operation = offer()
        of = await offered(here, operation)
        provider = here.provider()
        assert isinstance(await provider.look_at_offer(operation, of), Confirmed)
        clock.pass_time(61_000)
        answer = await provider.look_at_offer(operation, of)
        assert isinstance(answer, Declined)
        assert answer.code == "customer_timeout"


async def test_an_order_that_paypal_forgot_took_nothing_and_is_declined() -> None:
    async with PayPalHere() as here:
        operation = offer()
        of = await offered(here, operation)
        here.forget(of)
        answer = await here.provider().look_at_offer(operation, of)
        assert isinstance(answer, Declined)
        assert (answer.code, answer.provider_reference, answer.basis) == ("order_gone", of, Basis.ABSENCE)


async def test_while_a_customer_is_waited_for_an_order_that_cannot_be_found_is_no_end() -> None:
    async with PayPalHere(SkippingClock()) as here:
        operation = offer()
        of = await offered(here, operation, "")
        here.forget(of)
        answer = await here.provider().await_customer(operation, of)
        assert isinstance(answer, Declined)
        assert answer.code == "customer_timeout"


@pytest.mark.parametrize(("status", "body"), [(404, b"<html>not here</html>"), (410, b"{}"), (502, b"")])
async def test_something_on_the_way_to_paypal_does_not_say_that_an_order_is_gone(status: int, body: bytes) -> None:
    async with PayPalHere() as here:
        operation = offer()
        of = await offered(here, operation)
        session = FixedAnswer(Reply(status=status, body=body, date_ms=here.clock.now_ms()), settings(here), here.clock)
        provider = PayPalProvider(session=session, clock=here.clock, jitter=random.Random(1), customer_wait_ms=1_000)
        assert isinstance(await provider.look_at_offer(operation, of), Unknown)
        await provider.close()


async def test_a_taking_whose_order_is_gone_stays_being_checked() -> None:
    """The capture may have been made before: what is not there proves nothing, and the account may be another one."""
    async with PayPalHere() as here:
        operation = offer()
        of = await offered(here, operation)
        here.forget(of)
        found = await here.provider().find(taking(operation, of), since_ms=0)
        assert isinstance(found, Unknown)
        assert found.reason == "order_gone"


@pytest.mark.parametrize(
    ("fault", "kept", "reason"),
    [
        ("error_then_success", 0, "provider_failed"),
        ("error_after_processing", 1250, "provider_failed"),
        ("rate_limited", 0, "rate_limited"),
        ("truncated_json", 1250, "answer_unreadable"),
        ("wrong_amount", 1250, "amount_differs"),
        ("wrong_account", 1250, "reference_differs"),
        ("drop_reply", 1250, "connection_lost"),
    ],
)
async def test_an_unclear_capture_is_unknown_and_the_order_tells(fault: FaultName, kept: int, reason: str) -> None:
    async with PayPalHere() as here:
        operation = offer()
        of = await offered(here, operation)
        here.twin.faults.add(Fault(fault=fault, path="/v2/", method="POST"))
        answer = await here.provider().authorise(taking(operation, of))
        assert isinstance(answer, Unknown)
        assert answer.reason == reason
        assert here.kept_minor() == kept
        found = await here.provider().find(taking(operation, of), since_ms=0)
        assert isinstance(found, Found if kept else Absent)


def settings(here: PayPalHere) -> PayPalSettings:
    secret = Secret(SECRET.encode())
    return PayPalSettings(api_base=here.base, client_id=CLIENT, client_secret=secret, customer_wait_ms=1_000)


class FixedAnswer(PayPalSession):
    """Gives one answer to whatever is asked."""

    def __init__(self, reply: Reply, settings: PayPalSettings, clock: Clock) -> None:
        super().__init__(settings=settings, clock=clock)
        self._reply = reply

    async def ask(self, *_: Any, **__: Any) -> Reply:
        return self._reply


class OtherOrder(PayPalSession):
    """Answers a capture with another order, which has everything else right."""

    async def ask(
        self, method: str, path: str, *, key: str | None = None, body: dict[str, Any] | None = None
    ) -> Reply | NotSent | Refused | Unknown:
        reply = await super().ask(method, path, key=key, body=body)
        if not isinstance(reply, Reply) or not path.endswith("/capture"):
            return reply
        assert isinstance(reply.body, bytes)
        return replace(reply, body=reply.body.replace(path.split("/")[-2].encode(), b"0THER0RDER"))


async def test_a_capture_that_is_answered_with_another_order_is_unknown() -> None:
    async with PayPalHere() as here:
        operation = offer()
        of = await offered(here, operation)
        session = OtherOrder(settings=settings(here), clock=here.clock)
        provider = PayPalProvider(session=session, clock=here.clock, jitter=random.Random(1), customer_wait_ms=1_000)
        answer = await provider.authorise(taking(operation, of))
        await provider.close()
        assert answer == Unknown(reason="reference_differs", provider_reference=of)


@pytest.mark.parametrize(
    "address",
    [
        "http://www.paypal.com/checkoutnow",
        "https://paypal.com.example/checkoutnow",
        "https://evilpaypal.com/checkoutnow",
        "https://www.paypal.com@evil.example/checkoutnow",
        "https://evil.example\\.paypal.com/checkoutnow",
        "https://evil.example\\@www.paypal.com/checkoutnow",
        "https://evil.example\t@www.paypal.com/checkoutnow",
        f"https://www.paypal.com/{'a' * 2_048}",
    ],
)
def test_customers_are_sent_nowhere_but_to_paypal(address: str) -> None:
    good, base = "https://www.paypal.com/checkoutnow?token=5O190127TN364715T", "https://api-m.paypal.com"
    assert leads_to(good, domain="paypal.com", base=base)
    assert not leads_to(address, domain="paypal.com", base=base)


async def test_a_second_capture_under_another_key_takes_nothing_and_is_found_out_by_reading() -> None:
    async with PayPalHere() as here:
        operation = offer()
        of = await offered(here, operation)
        provider = here.provider()
        first = taking(operation, of)
        await provider.authorise(first)
        again = replace(first, provider_key=ProviderKey("another"))
        assert await provider.authorise(again) == Unknown(reason="captured_before")
        assert isinstance(await provider.find(again, since_ms=0), Found)
        assert here.kept_minor() == 1250


async def test_a_pending_capture_is_being_checked() -> None:
    async with PayPalHere() as here:
        operation = offer()
        of = await offered(here, operation, "pending")
        answer = await here.provider().authorise(taking(operation, of))
        assert answer == Unknown(reason="capture_pending", provider_reference=of)
        assert isinstance(await here.provider().find(taking(operation, of), since_ms=0), Unknown)


async def test_another_account_finds_nothing_and_proves_nothing() -> None:
    async with PayPalHere() as here:
        operation = offer()
        of = await offered(here, operation)
        await here.provider().authorise(taking(operation, of))
        stranger = here.provider(client="client-stranger")
        assert isinstance(await stranger.find(taking(operation, of), since_ms=0), Unknown)
        lost = Refund(provider_key=ProviderKey("r"), reference=operation.reference, amount=Money(1, "EUR"), of=of)
        assert isinstance(await stranger.refund(lost), Refused)


async def test_refunds_of_the_same_amount_are_told_apart_by_our_name() -> None:
    async with PayPalHere() as here:
        operation = offer()
        of = await offered(here, operation)
        provider = here.provider()
        await provider.authorise(taking(operation, of))
        first, second = (
            Refund(provider_key=ProviderKey(n.operation_id), reference=n, amount=Money(100, "EUR"), of=of)
            for n in (reference(), reference())
        )
        done = await provider.refund(first)
        assert isinstance(done, Confirmed)
        assert await provider.find(first, since_ms=0) == Found(answer=done)
        assert await provider.find(first, since_ms=0, known=done.provider_reference) == Found(answer=done)
        assert isinstance(await provider.find(second, since_ms=0), Absent)
        assert isinstance(await provider.find(second, since_ms=0, known=done.provider_reference), Unknown)


async def test_a_refund_whose_order_cannot_be_read_was_not_sent() -> None:
    async with PayPalHere() as here:
        operation = offer()
        of = await offered(here, operation)
        await here.provider().authorise(taking(operation, of))
        here.twin.faults.add(Fault(fault="error_then_success", path="/v2/", method="GET"))
        back = Refund(provider_key=ProviderKey("r"), reference=reference(), amount=Money(100, "EUR"), of=of)
        assert await here.provider().refund(back) == NotSent(reason="provider_failed")
        assert here.kept_minor() == 1250


async def test_wrong_credentials_are_refused_before_anything_is_asked() -> None:
    async with PayPalHere() as here:
        answer = await here.provider(secret="is-revoked").offer(offer())
        assert isinstance(answer, Refused)
        assert answer.code == "credentials_refused"
        assert "revoked" not in answer.detail


async def test_a_token_that_cannot_be_had_means_that_nothing_was_sent() -> None:
    async with PayPalHere() as here:
        here.twin.faults.add(Fault(fault="drop_request", path="/v1/"))
        assert await here.provider().offer(offer()) == NotSent(reason="connection_lost")


async def test_a_token_is_renewed_before_it_expires() -> None:
    clock = FakeClock()
    async with PayPalHere(clock) as here:
        provider = here.provider()
        await provider.offer(offer())
        clock.pass_time(32_400_000 - 59_000)
        assert isinstance(await provider.offer(offer()), Offered)


@pytest.mark.parametrize(
    ("amount_minor", "currency", "value"),
    [(1250, "EUR", "12.50"), (5, "USD", "0.05"), (1250, "JPY", "1250"), (120000, "HUF", "1200")],
)
def test_amounts_are_written_exactly_and_read_back(amount_minor: int, currency: str, value: str) -> None:
    money = Money(amount_minor, currency)
    assert value_for_paypal(money) == value
    assert is_value_of(value, money)
    assert not is_value_of(value, Money(amount_minor + 1, currency))


@pytest.mark.parametrize("value", ["12.5", "12.500", "12.50"])
def test_zeros_at_the_end_say_nothing(value: str) -> None:
    assert is_value_of(value, Money(1250, "EUR"))


@pytest.mark.parametrize("value", ["12.501", "1e3", "-12.50", "12.50 ", "012.50", ""])
def test_what_is_not_exactly_the_amount_is_not_it(value: str) -> None:
    assert not is_value_of(value, Money(1250, "EUR"))


@pytest.mark.parametrize(
    ("money", "code"), [(Money(150, "HUF"), "amount_not_representable"), (Money(100, "ISK"), "currency_unsupported")]
)
def test_what_paypal_cannot_carry_is_refused_before_it_is_sent(money: Money, code: str) -> None:
    refused = value_for_paypal(money)
    assert isinstance(refused, Refused)
    assert refused.code == code


async def test_an_address_without_tls_elsewhere_is_refused() -> None:
    settings = PayPalSettings(
        api_base="http://api-m.paypal.com", client_id="client-of-a-test", client_secret=Secret(b"x"), customer_wait_ms=1
    )
    with pytest.raises(Rejected, match="https"):
        PayPalSession(settings=settings, clock=FakeClock())

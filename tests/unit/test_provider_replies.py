"""What PayPal and Coinbase may answer and nobody expects: never an error of ours, never a guess."""

from __future__ import annotations

import json
import random
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.adapters import coinbase_reply, paypal_reply
from appliance.adapters.coinbase import CoinbaseProvider
from appliance.adapters.coinbase_session import CoinbaseSession, CoinbaseSettings
from appliance.adapters.paypal import PayPalProvider
from appliance.adapters.paypal_session import PayPalSession, PayPalSettings
from appliance.adapters.provider_http import Reply, read, time_ms
from appliance.config.secret import Secret
from appliance.model.ids import OperationId, ProviderKey, ProviderReference, TerminalId, new_request_key
from appliance.model.money import Money
from appliance.ports.clock import Clock
from appliance.ports.provider import (
    Authorise,
    CardSource,
    Confirmed,
    Declined,
    NotSent,
    Offer,
    Reference,
    Refused,
    Unknown,
)
from tests.coinbase_twin_here import NAME, key_file
from tests.fakes.clock import START_MS, FakeClock, SkippingClock

EUR: Final = Money(1250, "EUR")
NAMES: Final = ("shop.example/box-1/1", "key", "operation")
MADE: Final = "2026-09-21T22:00:45Z"
KEY: Final = new_request_key(START_MS, bytes(10))
OF: Final = ProviderReference("5O190127TN364715T")


def checkout(**more: Any) -> coinbase_reply.Checkout:
    said = {
        "id": "68f7a946db0529ea9b6d3a12",
        "status": "COMPLETED",
        "amount": "13.75",
        "currency": "USDC",
        "fiatAmount": "12.50",
        "fiatCurrency": "EUR",
        "createdAt": MADE,
        "metadata": dict(zip(coinbase_reply.OURS, NAMES, strict=True)),
        "settlement": {"totalAmount": "13.750000", "currency": "USDC"},
    }
    found: coinbase_reply.Checkout | None = read(json.dumps({**said, **more}), coinbase_reply.Checkout)
    assert found is not None
    return found


def told(**more: Any) -> Confirmed | Declined | Unknown:
    return coinbase_reply.told(checkout(**more), coinbase_reply.Expected(money=EUR, names=NAMES))


def settled(amount: str) -> dict[str, Any]:
    return {"settlement": {"totalAmount": amount, "currency": "USDC"}}


def test_what_was_settled_is_compared_as_a_number() -> None:
    answer = told()
    assert isinstance(answer, Confirmed)
    assert answer.settled == "13.75 USDC"


@pytest.mark.parametrize(
    "amount", ["sNaN", "NaN", "Infinity", "-13.75", "1e999999999", "13_75", "１３.75", "", "13.75 USDC", "9" * 400]
)
def test_a_settlement_that_is_no_amount_is_being_checked(amount: str) -> None:
    for more in (settled(amount), {"amount": amount}, {"amount": amount, **settled(amount)}):
        answer = told(**more)
        assert isinstance(answer, Unknown)
        assert answer.reason == "settlement_differs"


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_text_in_the_place_of_an_amount_is_an_error_of_ours(amount: str, total: str) -> None:
    assert isinstance(told(amount=amount, **settled(total)), Confirmed | Unknown)


def test_an_unclear_issue_counts_wherever_it_stands_among_others() -> None:
    details = [{"issue": "PAYEE_NOT_CONSENTED"}, {"issue": "ORDER_ALREADY_CAPTURED"}]
    body = json.dumps({"name": "UNPROCESSABLE_ENTITY", "details": details})
    assert paypal_reply.failure_answer(Reply(status=422, body=body)) == Unknown(reason="captured_before")
    refused = json.dumps({"name": "UNPROCESSABLE_ENTITY", "details": details[:1]})
    assert isinstance(paypal_reply.failure_answer(Reply(status=422, body=refused)), Refused)


@pytest.mark.parametrize("text", ["2026-09-21T22:00:45", "2026-09-21", "22:00", ""])
def test_a_time_without_a_zone_is_none_because_the_boxs_own_would_be_a_guess(text: str) -> None:
    assert time_ms(text) is None
    assert time_ms(MADE) == time_ms("2026-09-21T22:00:45+00:00") == 1_790_028_045_000


class OneAnswer:
    """A line on which everything is answered alike."""

    base = "https://provider.example"

    def __init__(self, body: Any, *, status: int = 200, date_ms: int = START_MS) -> None:
        self._reply = Reply(status=status, body=json.dumps(body), date_ms=date_ms)

    async def send(self, *_: Any) -> Reply:
        return self._reply

    async def close(self) -> None:
        """There is nothing."""


def names() -> Reference:
    return Reference(
        log_origin=NAMES[0], payment_key=KEY, operation_id=OperationId(f"{KEY}/0"), terminal_id=TerminalId("till-1")
    )


def offer() -> Offer:
    return Offer(provider_key=ProviderKey("k"), reference=names(), amount=EUR)


def paypal(line: OneAnswer, clock: Clock) -> PayPalProvider:
    settings = PayPalSettings(
        api_base=line.base, client_id="client-of-a-test", client_secret=Secret(b"secret"), customer_wait_ms=1_000
    )
    session = PayPalSession(settings=settings, clock=clock, line=line)
    return PayPalProvider(session=session, clock=clock, jitter=random.Random(1), customer_wait_ms=1_000)


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "a\nb", "a b", "", "ü", "\ud800", "x" * 10_000])
async def test_a_token_that_is_none_never_becomes_a_header(token: str) -> None:
    provider = paypal(OneAnswer({"access_token": token, "expires_in": 3_600}), FakeClock())
    assert await provider.offer(offer()) == NotSent(reason="token_unavailable")


async def test_an_order_that_somebody_else_captured_is_no_customer_who_did_not_come() -> None:
    unit = {
        "custom_id": f"{NAMES[0]} {KEY}/0",
        "amount": {"currency_code": "EUR", "value": "12.50"},
    }
    order = {"id": OF, "status": "COMPLETED", "purchase_units": [unit], "create_time": MADE}
    body = {**order, "access_token": "token", "expires_in": 3_600}
    provider = paypal(OneAnswer(body), SkippingClock())
    elsewhere = Unknown(reason="captured_by_somebody_else", provider_reference=OF)
    assert await provider.await_customer(offer(), OF) == elsewhere
    # Also long after, when it would be too late for a customer to agree.
    late = paypal(OneAnswer(body, date_ms=START_MS + 10**12), SkippingClock())
    assert await late.look_at_offer(offer(), OF) == elsewhere


async def test_coinbases_clock_at_the_end_of_time_is_no_error_of_ours() -> None:
    clock = FakeClock()
    settings = CoinbaseSettings(api_base=OneAnswer.base, key_name=NAME, key=Secret(key_file()))
    line = OneAnswer({}, status=500, date_ms=253_402_300_799_000)  # 9999-12-31T23:59:59Z
    session = CoinbaseSession(settings=settings, clock=clock, line=line)
    provider = CoinbaseProvider(session=session, clock=clock, jitter=random.Random(1), customer_wait_ms=60_000)
    operation = Authorise(provider_key=ProviderKey("k"), reference=names(), amount=EUR, source=CardSource(""))
    for _ in range(2):
        assert await provider.authorise(operation) == Unknown(reason="provider_failed")

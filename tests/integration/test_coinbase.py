"""Coinbase's adapter on the twin: a customer's own payment is never lost, never called failed, and never made twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from appliance.adapters.coinbase import CoinbaseProvider
from appliance.adapters.coinbase_reply import value_for_coinbase
from appliance.adapters.coinbase_session import CoinbaseSession, CoinbaseSettings
from appliance.adapters.provider_http import Reply
from appliance.config.secret import Secret
from appliance.model.ids import ProviderKey, ProviderReference
from appliance.model.limits import HOUR_MS
from appliance.model.money import Money
from appliance.ports.provider import (
    Absent,
    Answer,
    Authorise,
    CardSource,
    Confirmed,
    Declined,
    Found,
    NotSent,
    Offered,
    Refused,
    Unknown,
)
from provisioning.sandbox.coinbase_twin_api import Paying
from provisioning.sandbox.stripe_twin_faults import Fault, FaultName
from tests.coinbase_twin_here import NAME, STRANGER, WAIT_MS, CoinbaseHere, key_file
from tests.contract.test_provider import SINCE_MS, reference
from tests.fakes.clock import FakeClock, SkippingClock
from tests.until import until

CHECKOUTS = "/api/v1/checkouts"


def payment(amount_minor: int = 1250, currency: str = "EUR") -> Authorise:
    names = reference()
    key = ProviderKey(names.operation_id)
    return Authorise(provider_key=key, reference=names, amount=Money(amount_minor, currency), source=CardSource(""))


async def paid(here: CoinbaseHere, operation: Authorise | None = None) -> ProviderReference:
    here.customers(does="pay")
    answer = await here.provider().authorise(operation or payment())
    assert isinstance(answer, Confirmed), answer
    return answer.provider_reference


async def left_behind(here: CoinbaseHere, operation: Authorise) -> ProviderReference:
    """A checkout that can be paid, and a box that was killed while its customer stood there."""
    asking = asyncio.create_task(here.provider().authorise(operation))
    await until("a checkout at the twin", lambda: bool(here.checkouts()))
    asking.cancel()
    await asyncio.wait([asking])
    return ProviderReference(here.checkouts()[0]["id"])


def status(here: CoinbaseHere, of: ProviderReference) -> str:
    return str(next(each["status"] for each in here.checkouts() if each["id"] == of))


async def test_the_address_is_told_before_anybody_can_pay_and_the_payment_says_what_was_moved() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        operation, told = payment(), list[Offered]()

        async def show(offered: Offered) -> None:
            assert here.kept_minor() == 0
            told.append(offered)
            here.pay(offered.provider_reference)

        answer = await here.provider().authorise(replace(operation, show=show))
        (offered,) = told
        assert offered.show == f"{here.base}/payment-links/pl_{offered.provider_reference}"
        assert isinstance(answer, Confirmed)
        assert (answer.provider_reference, answer.settled) == (offered.provider_reference, "13.50 USDC")
        (checkout,) = here.checkouts()
        assert (checkout["fiatAmount"], checkout["fiatCurrency"]) == ("12.50", "EUR")
        assert checkout["metadata"]["tillstone_operation"] == operation.reference.operation_id
        assert here.kept_minor() == 1250


async def test_nobody_pays_and_the_checkout_is_withdrawn_before_it_is_called_declined() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        answer = await here.provider().authorise(payment())
        assert isinstance(answer, Declined)
        assert answer.code == "customer_timeout"
        assert answer.provider_reference is not None
        assert status(here, answer.provider_reference) == "DEACTIVATED"


async def test_a_till_that_gives_up_withdraws_and_a_webhook_hurries() -> None:
    async with CoinbaseHere() as here, asyncio.TaskGroup() as group:  # a clock that stands: only a bell ends a nap
        provider, shown = here.provider(), dict[str, ProviderReference]()

        def showing(operation: Authorise) -> Authorise:
            async def show(offered: Offered) -> None:
                shown[operation.provider_key] = offered.provider_reference

            return replace(operation, show=show)

        first, second = payment(), payment()
        waiting = [group.create_task(provider.authorise(showing(each))) for each in (first, second)]
        await until("both customers shown their address", lambda: len(shown) == 2)
        here.pay(shown[second.provider_key])
        assert provider.hurry(shown[second.provider_key])
        provider.give_up(first.provider_key)
        assert isinstance(await waiting[1], Confirmed)
        answer = await waiting[0]
        assert isinstance(answer, Declined)
        assert answer.code == "payment_aborted"
        assert status(here, shown[first.provider_key]) == "DEACTIVATED"
        assert not provider.hurry(shown[first.provider_key])


async def test_a_till_that_gives_up_before_there_is_an_address_shows_none() -> None:
    async with CoinbaseHere() as here, asyncio.TaskGroup() as group:
        provider, operation, told = here.provider(), payment(), list[Offered]()

        async def show(offered: Offered) -> None:
            told.append(offered)

        here.twin.faults.add(Fault(fault="hold", path=CHECKOUTS, method="POST"))
        asking = group.create_task(provider.authorise(replace(operation, show=show)))
        await asyncio.sleep(0.05)
        provider.give_up(operation.provider_key)
        here.twin.faults.clear()
        answer = await asking
        assert isinstance(answer, Declined)
        assert (answer.code, told) == ("payment_aborted", [])


class PaysMeanwhile(CoinbaseSession):
    """Its customer pays in the moment in which the box wants to withdraw."""

    here: CoinbaseHere
    paying: Paying = "good"
    confirm_ms = 0

    async def ask(self, method: str, path: str, **more: Any) -> Reply | NotSent | Unknown:
        if path.endswith("/deactivate"):
            self.here.pay(path.split("/")[-2], self.paying, self.confirm_ms)
        return await super().ask(method, path, **more)


def racing(here: CoinbaseHere, paying: Paying = "good", confirm_ms: int = 0) -> CoinbaseProvider:
    settings = CoinbaseSettings(api_base=here.base, key_name=NAME, key=Secret(key_file()))
    session = PaysMeanwhile(settings=settings, clock=here.clock)
    session.here, session.paying, session.confirm_ms = here, paying, confirm_ms
    return here.provider_on(session)


async def test_whoever_pays_in_the_moment_of_the_withdrawal_has_paid() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        assert isinstance(await racing(here).authorise(payment()), Confirmed)
        assert here.kept_minor() == 1250


async def test_a_payment_under_way_is_being_checked_until_it_has_an_end() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        operation = payment()
        answer = await racing(here, confirm_ms=HOUR_MS).authorise(operation)
        assert isinstance(answer, Unknown)
        assert (answer.reason, here.kept_minor()) == ("payment_processing", 0)
        of = answer.provider_reference
        assert isinstance(await here.provider().find(operation, since_ms=SINCE_MS, known=of), Unknown)
        await here.clock.sleep(HOUR_MS)  # of a clock that skips
        found = await here.provider().find(operation, since_ms=SINCE_MS, known=of)
        assert isinstance(found, Found)
        assert isinstance(found.answer, Confirmed)


@pytest.mark.parametrize(("paying", "kept"), [("short", 625), ("much", 2500)])
async def test_too_little_or_too_much_is_being_checked_and_never_called_failed(paying: Paying, kept: int) -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        operation = payment()
        here.customers(does="pay", paying=paying)
        answer = await here.provider().authorise(operation)
        assert isinstance(answer, Unknown)
        assert (answer.reason, here.kept_minor()) == ("settlement_differs", kept)
        found = await here.provider().find(operation, since_ms=SINCE_MS, known=answer.provider_reference)
        assert found == answer


async def test_a_payment_that_failed_at_coinbase_is_declined() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        here.customers(does="pay", paying="fails")
        answer = await here.provider().authorise(payment())
        assert isinstance(answer, Declined)
        assert (answer.code, here.kept_minor()) == ("payment_failed", 0)


async def test_money_that_comes_after_the_end_is_found_by_whoever_looks() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        operation = payment()
        answer = await here.provider().authorise(operation)
        assert isinstance(answer, Declined)
        assert answer.provider_reference is not None
        here.pay(answer.provider_reference, "late")
        found = await here.provider().find(operation, since_ms=SINCE_MS, known=answer.provider_reference)
        assert isinstance(found, Found)
        assert isinstance(found.answer, Confirmed)


@pytest.mark.parametrize(
    ("fault", "is_made", "reason"),
    [
        ("error_then_success", False, "provider_failed"),
        ("rate_limited", False, "rate_limited"),
        ("drop_request", False, "connection_lost"),
        ("error_after_processing", True, "provider_failed"),
        ("truncated_json", True, "answer_unreadable"),
        ("wrong_amount", True, "amount_differs"),
        ("wrong_account", True, "reference_differs"),
        ("wrong_payment", True, "reference_differs"),
        ("drop_reply", True, "connection_lost"),
    ],
)
async def test_a_checkout_whose_answer_is_unclear_was_shown_to_nobody_and_is_withdrawn(
    fault: FaultName, is_made: bool, reason: str
) -> None:
    async with CoinbaseHere() as here:
        operation = payment()
        here.twin.faults.add(Fault(fault=fault, path=CHECKOUTS, method="POST"))
        assert await here.provider().authorise(operation) == Unknown(reason=reason)
        found = await here.provider().find(operation, since_ms=SINCE_MS)
        if not is_made:
            assert isinstance(found, Absent)
            return
        assert isinstance(found, Found)
        assert isinstance(found.answer, Declined)
        assert found.answer.code == "offer_not_shown"
        assert status(here, ProviderReference(here.checkouts()[0]["id"])) == "DEACTIVATED"


async def test_a_customer_left_behind_may_still_pay_until_his_time_is_over() -> None:
    clock = FakeClock()
    async with CoinbaseHere(clock) as here:
        operation = payment()
        of = await left_behind(here, operation)
        provider = here.provider()
        assert await provider.find(operation, since_ms=SINCE_MS, known=of) == Unknown(
            reason="customer_asked", provider_reference=of
        )
        clock.pass_time(WAIT_MS + 2_000)
        found = await provider.find(operation, since_ms=SINCE_MS, known=of)
        assert isinstance(found, Found)
        assert isinstance(found.answer, Declined)
        assert (found.answer.code, status(here, of)) == ("customer_timeout", "DEACTIVATED")


async def test_a_checkout_ends_by_itself_while_the_box_is_away() -> None:
    clock = FakeClock()
    async with CoinbaseHere(clock) as here:
        operation = payment()
        of = await left_behind(here, operation)
        clock.pass_time(HOUR_MS)
        found = await here.provider().find(operation, since_ms=SINCE_MS, known=of)
        assert isinstance(found, Found)
        assert isinstance(found.answer, Declined)
        assert (found.answer.code, status(here, of)) == ("customer_timeout", "EXPIRED")


async def test_a_withdrawal_that_does_not_arrive_leaves_it_being_checked() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        operation = payment()
        await here.provider().find(operation, since_ms=SINCE_MS)
        here.twin.faults.add(Fault(fault="drop_request", path=f"{CHECKOUTS}/", method="POST"))
        answer = await here.provider().authorise(operation)
        assert isinstance(answer, Unknown)
        assert answer.reason == "withdrawal_unclear"
        await here.clock.sleep(2_000)  # of a clock that skips
        found = await here.provider().find(operation, since_ms=SINCE_MS, known=answer.provider_reference)
        assert isinstance(found, Found)
        assert isinstance(found.answer, Declined)


async def test_a_listing_is_read_to_its_last_page() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        operation = payment()
        of = await paid(here, operation)
        here.customers(does="wait")
        async with asyncio.TaskGroup() as group:
            provider = here.provider()
            others = [payment() for _ in range(120)]
            asking = [group.create_task(provider.authorise(each)) for each in others]
            for each in others:
                provider.give_up(each.provider_key)
            await asyncio.wait(asking)
        assert len(here.checkouts()) == 121
        found = await provider.find(operation, since_ms=SINCE_MS)
        assert isinstance(found, Found)
        assert isinstance(found.answer, Confirmed)
        assert found.answer.provider_reference == of
        here.twin.faults.add(Fault(fault="truncated_json", path=CHECKOUTS, method="GET"))
        assert await provider.find(payment(), since_ms=SINCE_MS) == Unknown(reason="listing_failed")


async def test_a_box_whose_clock_is_wrong_proves_nothing_by_a_listing_and_still_sells() -> None:
    clock = SkippingClock()
    async with CoinbaseHere(clock) as here:
        here.store.move_clock(HOUR_MS)
        provider = here.provider()
        refused = await provider.find(payment(), since_ms=SINCE_MS)
        assert refused == Unknown(reason="credentials_refused")  # a token of an hour ago; its answer told the time
        assert await provider.find(payment(), since_ms=SINCE_MS) == Unknown(reason="clock_disagrees")
        here.customers(does="pay")
        assert isinstance(await provider.authorise(payment()), Confirmed)


async def test_another_account_finds_nothing_and_proves_nothing() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        operation = payment()
        of = await paid(here, operation)
        stranger = here.provider(name=STRANGER)
        assert isinstance(await stranger.find(operation, since_ms=SINCE_MS, known=of), Unknown)
        assert here.kept_minor() == 1250


@pytest.mark.parametrize("currency", ["JPY", "SEK"])
async def test_a_currency_that_coinbase_does_not_ask_for_is_refused_before_anything_is_sent(currency: str) -> None:
    async with CoinbaseHere() as here:
        answer = await here.provider().authorise(payment(1250, currency))
        assert isinstance(answer, Refused)
        assert (answer.code, here.checkouts()) == ("currency_unsupported", [])


async def test_a_log_whose_name_does_not_fit_is_refused_before_anything_is_sent() -> None:
    async with CoinbaseHere() as here:
        operation = payment()
        long = replace(operation, reference=replace(operation.reference, log_origin="x" * 101))
        answer = await here.provider().authorise(long)
        assert isinstance(answer, Refused)
        assert (answer.code, here.checkouts()) == ("reference_too_long", [])


async def test_a_card_that_is_captured_later_is_no_matter_of_coinbases() -> None:
    async with CoinbaseHere() as here:
        answer: Answer = await here.provider().authorise(replace(payment(), is_captured_later=True))
        assert isinstance(answer, Refused)
        assert (answer.code, here.checkouts()) == ("holds_nothing", [])


@pytest.mark.parametrize(("money", "value"), [(Money(5, "USD"), "0.05"), (Money(123456, "EUR"), "1234.56")])
def test_amounts_are_written_exactly(money: Money, value: str) -> None:
    assert value_for_coinbase(money) == value

"""A payment at a card reader, through the real SDK and the twin: every way it can end, and what was really charged.

The clock is virtual: a customer who takes a minute takes no time here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from appliance.adapters import stripe_reader
from appliance.adapters.stripe import StripeProvider
from appliance.model.limits import PROVIDER_DEADLINE_MS
from appliance.ports.provider import Absent, Answer, Authorise, Confirmed, Declined, Found, Refused, Unknown
from provisioning.sandbox.stripe_twin_faults import Fault, FaultName
from tests.contract.test_provider import SINCE_MS, authorisation
from tests.fakes.clock import HeldClock, SkippingClock
from tests.stripe_twin_here import TwinHere

MINUTE_MS = 60_000


class Shop:
    """The twin, our adapter, one reader."""

    def __init__(self, twin: TwinHere, provider: StripeProvider, reader: str) -> None:
        self.twin = twin
        self.provider = provider
        self.reader = reader

    def operation(self, amount_minor: int = 1250) -> Authorise:
        return authorisation(amount_minor, source=self.reader)

    async def take(self, **customer: Any) -> Answer:
        self.twin.set_customer(self.reader, **customer)
        return await self.provider.authorise(self.operation())

    def fault(self, fault: FaultName, path: str, method: Literal["GET", "POST"] = "POST", times: int = 1) -> None:
        self.twin.twin.faults.add(Fault(fault=fault, path=path, method=method, times=times))

    async def payment(self) -> Any:
        """The newest payment, as Stripe shows it."""
        return (await self.twin.sdk().v1.payment_intents.list_async({"limit": 1})).data[0]

    async def last_error(self) -> str | None:
        """The code of the newest payment's last error."""
        payments = (await self.twin.sdk().v1.payment_intents.list_async({"limit": 1})).data
        error = payments[0].last_payment_error if payments else None
        return None if error is None else error.code

    async def action(self) -> Any:
        return (await self.twin.sdk().v1.terminal.readers.retrieve_async(self.reader)).action

    def pass_time(self, duration_ms: int) -> None:
        self.clock.pass_time(duration_ms)

    @property
    def clock(self) -> SkippingClock:
        assert isinstance(self.twin.clock, SkippingClock)
        return self.twin.clock

    @property
    def held(self) -> HeldClock:
        assert isinstance(self.twin.clock, HeldClock)
        return self.twin.clock


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with TwinHere(SkippingClock()) as twin:
        yield Shop(twin, await twin.provider(), await twin.reader())


@pytest.fixture
async def still() -> AsyncIterator[Shop]:
    """A shop in which nobody wakes before the test says so."""
    async with TwinHere(HeldClock()) as twin:
        yield Shop(twin, await twin.provider(), await twin.reader())


async def nothing_moved(shop: Shop) -> None:
    """The payment is cancelled for good and the reader is free."""
    assert shop.twin.kept_minor() == 0
    assert (await shop.payment()).status == "canceled"
    action = await shop.action()
    assert action is None or action.status != "in_progress"


async def test_a_customer_who_takes_most_of_a_minute_is_waited_for(shop: Shop) -> None:
    began_ms = shop.clock.monotonic_ms()
    answer = await shop.take(does="approve", after_ms=55_000)
    assert isinstance(answer, Confirmed)
    assert shop.twin.kept_minor() == 1250
    assert 55_000 <= shop.clock.monotonic_ms() - began_ms <= 58_000


async def test_a_declined_card_is_declined_with_the_banks_reason_and_cannot_be_tried_on_later(shop: Shop) -> None:
    answer = await shop.take(does="decline", after_ms=2_000)
    assert isinstance(answer, Declined)
    assert answer.code == "insufficient_funds"
    await nothing_moved(shop)


async def test_a_customer_who_never_comes_is_given_up_after_the_settings_time(shop: Shop) -> None:
    began_ms = shop.clock.monotonic_ms()
    answer = await shop.take(does="walk_away")
    assert isinstance(answer, Declined)
    assert answer.code == "customer_timeout"
    assert 60_000 <= shop.clock.monotonic_ms() - began_ms <= 62_000
    assert await shop.action() is None
    await nothing_moved(shop)


async def test_the_cancel_button_is_a_decline(shop: Shop) -> None:
    answer = await shop.take(does="cancel", after_ms=1_000)
    assert isinstance(answer, Declined)
    assert answer.code == "customer_canceled"
    await nothing_moved(shop)


@pytest.mark.parametrize("does", ["vanish", "lose_line"])
async def test_a_reader_that_hides_a_charge_is_not_believed(shop: Shop, does: str) -> None:
    assert isinstance(await shop.take(does=does, after_ms=3_000), Confirmed)
    assert shop.twin.kept_minor() == 1250


async def test_a_command_that_was_heard_though_it_timed_out_is_followed_to_its_end(shop: Shop) -> None:
    assert isinstance(await shop.take(does="approve", after_ms=3_000, reaches="unheard"), Confirmed)
    assert shop.twin.kept_minor() == 1250


async def test_a_reader_that_is_offline_is_a_typed_answer_and_nothing_moved(shop: Shop) -> None:
    answer = await shop.take(does="approve", reaches="no")
    assert isinstance(answer, Declined)
    assert answer.code == "reader_offline"
    await nothing_moved(shop)


async def test_a_reader_that_asks_a_bank_for_somebody_else_is_busy_and_nothing_moved(shop: Shop) -> None:
    shop.twin.set_customer(shop.reader, does="approve", authorise_ms=30_000)
    other = await shop.twin.sdk().v1.payment_intents.create_async(
        {"amount": 900, "currency": "eur", "allowed_payment_method_types": ["card_present"]}
    )
    await shop.twin.sdk().v1.terminal.readers.process_payment_intent_async(shop.reader, {"payment_intent": other.id})
    shop.twin.twin.happen()
    answer = await shop.provider.authorise(shop.operation())
    assert isinstance(answer, Declined)
    assert answer.code == "reader_busy"
    shop.pass_time(30_000)
    assert shop.twin.kept_minor() == 900


async def test_a_payment_that_takes_the_reader_over_ends_ours_and_stays(still: Shop) -> None:
    async with asyncio.TaskGroup() as group:
        ours = group.create_task(still.take(does="walk_away"))
        await still.held.asleep.wait()
        sdk = still.twin.sdk().v1
        other = await sdk.payment_intents.create_async(
            {"amount": 900, "currency": "eur", "allowed_payment_method_types": ["card_present"]}
        )
        await sdk.terminal.readers.process_payment_intent_async(still.reader, {"payment_intent": other.id})
        still.held.let_pass()
    answer = ours.result()
    assert isinstance(answer, Declined)
    assert answer.code == "reader_taken"
    assert answer.provider_reference is not None
    assert (await sdk.payment_intents.retrieve_async(answer.provider_reference)).status == "canceled"
    action = await still.action()
    assert action.process_payment_intent.payment_intent == other.id
    assert action.status == "in_progress"


async def test_a_till_that_gives_up_gets_a_decline_and_the_reader_is_free(still: Shop) -> None:
    """No time passes: giving up is heard at once, not at the end of the customer's time."""
    still.twin.set_customer(still.reader, does="walk_away")
    operation = still.operation()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        answer = group.create_task(still.provider.authorise(operation))
        await still.held.asleep.wait()
        still.provider.give_up(operation.provider_key)
    declined = answer.result()
    assert isinstance(declined, Declined)
    assert declined.code == "payment_aborted"
    await nothing_moved(still)


async def test_a_card_that_was_quicker_than_the_end_of_time_is_charged_and_said_so(shop: Shop) -> None:
    answer = await shop.take(does="approve", after_ms=59_000, authorise_ms=5_000)
    assert isinstance(answer, Confirmed)
    assert shop.twin.kept_minor() == 1250


async def test_no_tip_is_asked_for_on_the_reader(shop: Shop) -> None:
    """It would change the amount after the intent was durable."""
    assert isinstance(await shop.take(does="approve", tip=300), Confirmed)
    assert shop.twin.kept_minor() == 1250


async def test_a_reader_nobody_knows_is_a_typed_answer(shop: Shop) -> None:
    answer = await shop.provider.authorise(authorisation(source="tmr_ofNobody"))
    assert isinstance(answer, Declined)
    assert answer.code == "reader_unknown"
    await nothing_moved(shop)


async def test_a_readers_name_never_becomes_another_path(shop: Shop) -> None:
    answer = await shop.provider.authorise(authorisation(source="tmr_../../account"))
    assert isinstance(answer, Refused)
    assert answer.code == "source_unknown"


async def test_a_lost_answer_to_the_first_question_is_unknown_and_ends_by_itself(shop: Shop) -> None:
    operation = shop.operation()
    shop.fault("drop_reply", "/v1/payment_intents")
    assert await shop.provider.authorise(operation) == Unknown(reason="connection_lost")
    early = await shop.provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(early, Unknown)
    assert early.reason == stripe_reader.WAITING
    shop.pass_time(2 * MINUTE_MS)
    late = await shop.provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(late, Found)
    assert isinstance(late.answer, Declined)
    assert late.answer.code == "customer_timeout"
    await nothing_moved(shop)


async def test_a_first_question_that_never_arrived_is_absent(shop: Shop) -> None:
    operation = shop.operation()
    shop.fault("drop_request", "/v1/payment_intents")
    assert await shop.provider.authorise(operation) == Unknown(reason="connection_lost")
    assert isinstance(await shop.provider.find(operation, since_ms=SINCE_MS), Absent)


@pytest.mark.parametrize(
    "fault", ["drop_reply", "error_after_processing", "truncated_json", "truncated_reply", "wrong_account"]
)
async def test_a_lost_answer_of_the_reader_is_found_by_looking(shop: Shop, fault: FaultName) -> None:
    shop.fault(fault, "/v1/terminal/readers")
    assert isinstance(await shop.take(does="approve", after_ms=4_000), Confirmed)
    assert shop.twin.kept_minor() == 1250


@pytest.mark.parametrize("fault", ["drop_request", "error_then_success", "rate_limited"])
async def test_a_reader_that_never_heard_of_it_moves_nothing(shop: Shop, fault: FaultName) -> None:
    shop.fault(fault, "/v1/terminal/readers")
    answer = await shop.take(does="approve", after_ms=4_000)
    assert isinstance(answer, Declined)
    assert answer.code == "reader_unreached"
    await nothing_moved(shop)


@pytest.mark.parametrize("fault", ["drop_request", "truncated_json", "rate_limited", "wrong_account"])
async def test_lost_looks_do_not_end_the_waiting(shop: Shop, fault: FaultName) -> None:
    shop.fault(fault, "/v1/", method="GET", times=7)
    answer = await shop.take(does="approve", after_ms=6_000)
    if fault == "wrong_account":
        assert isinstance(answer, Unknown)  # a lie about the payment is for a person
    else:
        assert isinstance(answer, Confirmed)
    shop.pass_time(6_000)
    assert shop.twin.kept_minor() == 1250


async def test_an_outage_while_a_customer_pays_is_unknown_and_found_afterwards(shop: Shop) -> None:
    operation = shop.operation()
    shop.twin.set_customer(shop.reader, does="approve", after_ms=1_000)
    shop.fault("drop_request", "/v1/payment_intents/", method="GET", times=1_000)
    shop.fault("drop_request", "/v1/payment_intents/", times=1_000)
    answer = await shop.provider.authorise(operation)
    assert isinstance(answer, Unknown)
    assert answer.reason == "withdrawal_unclear"
    assert answer.provider_reference is not None
    shop.twin.twin.faults.clear()
    found = await shop.provider.find(operation, since_ms=SINCE_MS, known=answer.provider_reference)
    assert isinstance(found, Found)
    assert isinstance(found.answer, Confirmed)
    assert shop.twin.kept_minor() == 1250


@pytest.mark.parametrize("does", ["approve", "walk_away"])
async def test_a_payment_left_behind_by_a_crash_has_an_end(still: Shop, does: str) -> None:
    operation = still.operation()
    still.twin.set_customer(still.reader, does=does, after_ms=30_000)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(still.provider.authorise(operation))
        await still.held.asleep.wait()
        asking.cancel()
    again = await still.twin.provider()
    still.pass_time(2 * MINUTE_MS)
    found = await again.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Found)
    assert isinstance(found.answer, Confirmed if does == "approve" else Declined)
    assert still.twin.kept_minor() == (1250 if does == "approve" else 0)


@pytest.mark.parametrize(
    "fault", ["drop_request", "drop_reply", "error_then_success", "truncated_json", "rate_limited"]
)
async def test_a_declined_payment_whose_cancellation_is_lost_is_cancelled_again(shop: Shop, fault: FaultName) -> None:
    shop.fault(fault, "/v1/payment_intents/")
    answer = await shop.take(does="decline", after_ms=2_000)
    assert isinstance(answer, Declined)
    assert answer.code == "insufficient_funds"
    await nothing_moved(shop)


async def test_a_declined_payment_that_cannot_be_cancelled_is_unknown_until_it_can(shop: Shop) -> None:
    """Until then the next card could be charged for it."""
    operation = shop.operation()
    shop.twin.set_customer(shop.reader, does="decline", after_ms=2_000)
    shop.fault("drop_request", "/v1/payment_intents/", times=1_000)
    answer = await shop.provider.authorise(operation)
    known = (await shop.payment()).id
    assert answer == Unknown(reason="withdrawal_unclear", provider_reference=known)
    waits = Unknown(reason=stripe_reader.WAITING, provider_reference=known)
    assert await shop.provider.find(operation, since_ms=SINCE_MS) == waits
    assert await shop.provider.find(operation, since_ms=SINCE_MS, known=known) == waits
    shop.twin.twin.faults.clear()
    found = await shop.provider.find(operation, since_ms=SINCE_MS, known=known)
    assert isinstance(found, Found)
    assert isinstance(found.answer, Declined)
    assert found.answer.code == "insufficient_funds"
    await nothing_moved(shop)
    assert await shop.provider.find(operation, since_ms=SINCE_MS) == found


async def test_a_declined_payment_left_behind_by_a_crash_is_cancelled_before_it_is_called_declined(shop: Shop) -> None:
    operation = shop.operation()
    shop.twin.set_customer(shop.reader, does="decline", after_ms=2_000)
    shop.fault("hang", "/v1/payment_intents/")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        asking = group.create_task(shop.provider.authorise(operation))
        while (await shop.last_error()) != "card_declined":
            pass
        early = await shop.provider.find(operation, since_ms=SINCE_MS)
        asking.cancel()
    assert isinstance(early, Unknown)  # whoever waits for it cancels it
    assert (await shop.payment()).status == "requires_payment_method"
    shop.twin.twin.faults.clear()
    again = await shop.twin.provider()
    found = await again.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Found)
    assert isinstance(found.answer, Declined)
    assert found.answer.code == "insufficient_funds"
    await nothing_moved(shop)


async def test_a_look_that_hangs_does_not_eat_the_customers_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripe_reader, "ASK_MS_MAX", 250)
    shop.fault("hang", "/v1/payment_intents/", method="GET")
    async with asyncio.timeout(20):
        answer = await shop.take(does="approve", after_ms=3_000)
    assert isinstance(answer, Confirmed)
    assert shop.twin.kept_minor() == 1250


async def test_only_a_reader_is_waited_for_longer(shop: Shop) -> None:
    assert shop.provider.patience_ms(authorisation()) == PROVIDER_DEADLINE_MS
    assert shop.provider.patience_ms(shop.operation()) == PROVIDER_DEADLINE_MS + 60_000 + stripe_reader.WITHDRAW_MS

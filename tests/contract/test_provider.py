"""What every provider promises, held against the fake, against the real SDK with the Stripe twin (a card that the
provider knows, and a card that a customer shows to a reader), against the twins of PayPal and Coinbase, and at
the PIN pad twin.

The oracle is what the other side really charged, never what our side was told.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.model.ids import OperationId, ProviderKey, ProviderReference, RequestKey, TerminalId, new_request_key
from appliance.model.money import Money
from appliance.ports.provider import (
    Absent,
    Authorise,
    Cancel,
    Capture,
    CardSource,
    Confirmed,
    Declined,
    Found,
    NotSent,
    Reference,
    Refund,
    Refused,
    Unknown,
)
from tests.coinbase_twin_here import CoinbaseHere
from tests.contract.coinbase_subject import CoinbaseSubject
from tests.contract.paypal_subject import PayPalSubject
from tests.contract.pin_pad_subject import ANSWER_S, PinPadSubject
from tests.contract.provider_subject import FakeSubject, HoldingSubject, StripeSubject, Subject
from tests.contract.reader_subject import ReaderSubject
from tests.fakes.clock import START_MS, FakeClock, SkippingClock
from tests.fakes.provider import Switch
from tests.paypal_twin_here import PayPalHere
from tests.pin_pad_here import PinPadHere
from tests.stripe_twin import TwinProcess
from tests.stripe_twin_here import TwinHere

SINCE_MS = START_MS - 3_600_000


HOLDING = ("fake", "stripe", "reader")
"""The subjects that can have money held."""


@pytest.fixture(params=[*HOLDING, "paypal", "coinbase", "pin_pad"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "paypal":
        async with PayPalHere(FakeClock()) as there:
            yield PayPalSubject(there, there.provider())
        return
    if request.param == "coinbase":
        async with CoinbaseHere(SkippingClock()) as pays:
            yield CoinbaseSubject(pays, pays.provider())
        return
    if request.param == "pin_pad":
        async with PinPadHere() as pad:
            yield PinPadSubject(pad, pad.provider(answer_s=ANSWER_S))
        return
    async with open_holding(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture(params=HOLDING)
async def holding(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HoldingSubject]:
    async with open_holding(request.param, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def open_holding(name: str, folder: Path) -> AsyncIterator[HoldingSubject]:
    if name == "fake":
        yield FakeSubject()
        return
    if name == "reader":
        async with TwinHere(SkippingClock()) as here:
            yield ReaderSubject(here, await here.provider(), await here.reader())
        return
    async with TwinProcess(folder) as twin:
        provider = await twin.provider()
        yield StripeSubject(twin, provider)
        await provider.close()


_numbers = itertools.count(1)


def reference() -> Reference:
    number = next(_numbers)
    key: RequestKey = new_request_key(START_MS, number.to_bytes(10, "big"))
    return Reference(
        log_origin="shop.example/box-1/1",
        payment_key=key,
        operation_id=OperationId(f"{key}/0"),
        terminal_id=TerminalId("till-1"),
    )


def authorisation(amount_minor: int = 1250, source: str = "pm_card_visa") -> Authorise:
    names = reference()
    return Authorise(
        provider_key=ProviderKey(f"{names.operation_id}/1"),
        reference=names,
        amount=Money(amount_minor, "EUR"),
        source=CardSource(source),
    )


def reservation(amount_minor: int = 1000) -> Authorise:
    return replace(authorisation(amount_minor), is_captured_later=True)


def _following(paid: Authorise) -> Reference:
    """Another operation on the payment of `paid`."""
    key = paid.reference.payment_key
    return replace(paid.reference, operation_id=OperationId(f"{key}/{next(_numbers)}"))


def capture_of(paid: Authorise, of: ProviderReference, amount_minor: int) -> Capture:
    names = _following(paid)
    return Capture(
        provider_key=ProviderKey(f"{names.operation_id}/1"),
        reference=names,
        amount=Money(amount_minor, "EUR"),
        held=paid.amount,
        of=of,
    )


def cancel_of(paid: Authorise, of: ProviderReference) -> Cancel:
    names = _following(paid)
    key = ProviderKey(f"{names.operation_id}/1")
    return Cancel(provider_key=key, reference=names, amount=paid.amount, of=of)


def refund_of(of: ProviderReference, amount_minor: int) -> Refund:
    names = reference()
    key = ProviderKey(f"{names.operation_id}/1")
    return Refund(provider_key=key, reference=names, amount=Money(amount_minor, "EUR"), of=of)


async def charge(subject: Subject, operation: Authorise) -> ProviderReference:
    answer = await subject.provider.authorise(operation)
    assert isinstance(answer, Confirmed), answer
    return answer.provider_reference


async def test_a_good_card_is_charged_once_with_the_amount_asked(subject: Subject) -> None:
    operation = await subject.ready(authorisation(1250))
    answer = await subject.provider.authorise(operation)
    assert isinstance(answer, Confirmed)
    assert answer.amount == operation.amount
    assert abs(answer.confirmed_ms - START_MS) < 60_000
    assert await subject.kept_minor() == 1250


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
    ],
)
async def test_a_typed_decline_is_declined_and_charges_nothing(subject: Subject, source: str, code: str) -> None:
    operation = await subject.ready(authorisation(source=source))
    answer = await subject.provider.authorise(operation)
    assert isinstance(answer, Declined)
    assert answer.code == subject.code_of(code)
    assert await subject.provider.authorise(operation) == answer
    assert await subject.kept_minor() == 0
    found = await subject.provider.find(operation, since_ms=SINCE_MS)
    if not subject.remembers_declines:
        assert isinstance(found, Absent)
        return
    assert isinstance(found, Found)
    assert isinstance(found.answer, Declined)
    assert found.answer.code == subject.code_of(code)


async def test_the_same_key_with_the_same_bytes_is_one_charge(subject: Subject) -> None:
    operation = await subject.ready(authorisation())
    first = await subject.provider.authorise(operation)
    assert await subject.provider.authorise(operation) == first
    assert await subject.kept_minor() == 1250


async def test_the_same_key_with_other_bytes_charges_nothing_more_and_is_never_called_failed(subject: Subject) -> None:
    operation = await subject.ready(authorisation(1250))
    await charge(subject, operation)
    other = await subject.ready(replace(operation, amount=Money(9900, "EUR")))
    assert await subject.provider.authorise(other) == Unknown(reason="key_reused")
    assert await subject.kept_minor() == 1250


@pytest.mark.parametrize(("switch", "kept_minor"), [(Switch.FAIL_BEFORE, 0), (Switch.FAIL_AFTER, 1250)])
async def test_a_lost_answer_is_unknown_and_reading_tells_the_truth(
    subject: Subject, switch: Switch, kept_minor: int
) -> None:
    operation = await subject.ready(authorisation())
    await subject.strike(switch)
    assert isinstance(await subject.provider.authorise(operation), Unknown)
    assert await subject.kept_minor() == kept_minor
    found = await subject.provider.find(operation, since_ms=SINCE_MS)
    if kept_minor:
        assert isinstance(found, Found)
        assert isinstance(found.answer, Confirmed)
    else:
        assert isinstance(found, Absent)
        assert abs(found.as_of_ms - START_MS) < 60_000


@pytest.mark.parametrize(("switch", "kept_minor"), [(Switch.HANG_BEFORE, 0), (Switch.HANG_AFTER, 1250)])
async def test_the_callers_deadline_ends_a_hang_and_reading_tells_the_truth(
    subject: Subject, switch: Switch, kept_minor: int
) -> None:
    operation = await subject.ready(authorisation())
    await subject.strike(switch)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await subject.provider.authorise(operation)
    assert await subject.kept_minor() == kept_minor
    found = await subject.provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Found if kept_minor else Absent)


async def test_cancellation_is_passed_on_at_once(subject: Subject) -> None:
    operation = await subject.ready(authorisation())
    await subject.strike(Switch.HANG_BEFORE)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(subject.provider.authorise(operation))
        await asyncio.sleep(0)
        asking.cancel()
    assert asking.cancelled()


async def test_an_answer_about_another_amount_is_unknown(subject: Subject) -> None:
    operation = await subject.ready(authorisation())
    await subject.strike(Switch.LIE)
    answer = await subject.provider.authorise(operation)
    assert answer == Unknown(reason="amount_differs")
    found = await subject.provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Found)


async def test_refunds_never_exceed_what_is_left(subject: Subject) -> None:
    of = await charge(subject, await subject.ready(authorisation(1000)))
    first = refund_of(of, 700)
    answer = await subject.provider.refund(first)
    assert isinstance(answer, Confirmed)
    assert await subject.provider.refund(first) == answer
    if not subject.knows_what_is_left:
        assert isinstance(await subject.provider.refund(refund_of(of, 1001)), Refused)
        assert await subject.kept_minor() == 300
        return  # the ledger alone keeps refunds below what is left: `payment/refund.py`
    assert isinstance(await subject.provider.refund(refund_of(of, 301)), Refused)
    assert isinstance(await subject.provider.refund(refund_of(of, 300)), Confirmed)
    spent = await subject.provider.refund(refund_of(of, 1))
    assert isinstance(spent, Refused)
    assert spent.code == "charge_already_refunded"
    assert await subject.kept_minor() == 0


@pytest.mark.parametrize(("switch", "kept_minor"), [(Switch.FAIL_BEFORE, 1000), (Switch.FAIL_AFTER, 0)])
async def test_a_lost_refund_is_unknown_and_reading_tells_the_truth(
    subject: Subject, switch: Switch, kept_minor: int
) -> None:
    operation = refund_of(await charge(subject, await subject.ready(authorisation(1000))), 1000)
    await subject.strike(switch)
    assert isinstance(await subject.provider.refund(operation), Unknown)
    assert await subject.kept_minor() == kept_minor
    found = await subject.provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Absent if kept_minor else Found)


async def test_a_refund_of_an_unknown_payment_is_refused(subject: Subject) -> None:
    answer = await subject.provider.refund(refund_of(ProviderReference("pi_" + "0" * 24), 100))
    assert isinstance(answer, Refused)


async def test_a_captured_payment_is_not_cancelled(holding: HoldingSubject) -> None:
    paid = await holding.ready(authorisation())
    of = await charge(holding, paid)
    operation = cancel_of(paid, of)
    answer = await holding.provider.cancel(operation)
    assert isinstance(answer, Refused)
    assert answer.code == "payment_already_captured"
    assert await holding.kept_minor() == 1250
    found = await holding.provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Found)
    assert isinstance(found.answer, Declined)


async def test_what_is_held_is_found_and_takes_no_money_until_it_is_captured(holding: HoldingSubject) -> None:
    operation = reservation()
    of = await charge(holding, operation)
    assert await holding.kept_minor() == 0
    found = await holding.provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Found)
    assert isinstance(found.answer, Confirmed)
    assert isinstance(await holding.provider.refund(refund_of(of, 1)), Refused)
    captured = capture_of(operation, of, 800)
    assert isinstance(await holding.provider.find(captured, since_ms=SINCE_MS), Absent)
    answer = await holding.provider.capture(captured)
    assert isinstance(answer, Confirmed)
    assert answer.amount == captured.amount
    assert await holding.kept_minor() == 800
    assert isinstance(await holding.provider.refund(refund_of(of, 801)), Refused)


async def test_a_second_capture_finds_the_first_one_and_never_takes_more(holding: HoldingSubject) -> None:
    held = reservation()
    of = await charge(holding, held)
    await holding.provider.capture(capture_of(held, of, 800))
    assert isinstance(await holding.provider.capture(capture_of(held, of, 800)), Confirmed)
    assert not isinstance(await holding.provider.capture(capture_of(held, of, 900)), Confirmed | Declined)
    assert await holding.kept_minor() == 800


@pytest.mark.parametrize(("switch", "kept_minor"), [(Switch.FAIL_BEFORE, 0), (Switch.FAIL_AFTER, 800)])
async def test_a_lost_capture_is_unknown_and_reading_tells_the_truth(
    holding: HoldingSubject, switch: Switch, kept_minor: int
) -> None:
    held = reservation()
    operation = capture_of(held, await charge(holding, held), 800)
    await holding.strike(switch)
    assert isinstance(await holding.provider.capture(operation), Unknown)
    assert await holding.kept_minor() == kept_minor
    found = await holding.provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Found if kept_minor else Absent)


@pytest.mark.parametrize("switch", [Switch.FAIL_BEFORE, Switch.FAIL_AFTER])
async def test_what_is_held_is_given_up_once_and_cannot_be_captured_then(
    holding: HoldingSubject, switch: Switch
) -> None:
    held = reservation()
    of = await charge(holding, held)
    operation = cancel_of(held, of)
    assert isinstance(await holding.provider.find(operation, since_ms=SINCE_MS), Absent)
    await holding.strike(switch)
    assert isinstance(await holding.provider.cancel(operation), Unknown)
    found = await holding.provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Absent if switch is Switch.FAIL_BEFORE else Found)
    assert isinstance(await holding.provider.cancel(cancel_of(held, of)), Confirmed)
    late = await holding.provider.capture(capture_of(held, of, 1000))
    assert isinstance(late, Declined)
    assert late.code == "payment_canceled"
    assert await holding.kept_minor() == 0


async def test_an_authorisation_that_expired_is_declined_to_a_capture_and_confirmed_to_a_cancel(
    holding: HoldingSubject,
) -> None:
    held = reservation()
    of = await charge(holding, held)
    await holding.lapse()
    assert isinstance(await holding.provider.capture(capture_of(held, of, 1000)), Declined)
    assert isinstance(await holding.provider.cancel(cancel_of(held, of)), Confirmed)
    assert await holding.kept_minor() == 0


@pytest.mark.parametrize(("switch", "why"), [(Switch.LIE, "amount_differs"), (Switch.OTHER, "payment_differs")])
@pytest.mark.parametrize("kind", ["capture", "cancel"])
async def test_a_capture_or_cancel_is_believed_only_of_its_own_payment_and_amount(
    holding: HoldingSubject, kind: str, switch: Switch, why: str
) -> None:
    held = reservation()
    of = await charge(holding, held)
    capture, cancel = capture_of(held, of, 1000), cancel_of(held, of)
    await holding.strike(switch)
    asked = holding.provider.capture(capture) if kind == "capture" else holding.provider.cancel(cancel)
    assert await asked == Unknown(reason=why)
    found = await holding.provider.find(capture if kind == "capture" else cancel, since_ms=SINCE_MS)
    assert isinstance(found, Found)
    assert isinstance(found.answer, Confirmed)


async def test_what_was_never_asked_is_absent(subject: Subject) -> None:
    await charge(subject, await subject.ready(authorisation()))
    assert isinstance(await subject.provider.find(await subject.ready(authorisation()), since_ms=SINCE_MS), Absent)


async def test_no_connection_is_known_not_to_have_been_sent(subject: Subject) -> None:
    operation = await subject.ready(authorisation())
    await subject.cut_line()
    assert await subject.provider.authorise(operation) == NotSent(reason="connection_failed")

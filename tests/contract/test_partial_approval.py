"""A card that is approved for less than was asked: what the fake and the Stripe twin both promise of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.model.money import Money
from appliance.ports.provider import Authorise, Confirmed, Declined, Found, PartlyConfirmed, Unknown
from tests.contract.provider_subject import Subject
from tests.contract.test_provider import SINCE_MS, authorisation, open_holding, refund_of
from tests.fakes.provider import PARTIAL, Switch


@pytest.fixture(params=["fake", "stripe"])
async def lenient(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """Providers whose cards may be approved for less."""
    async with open_holding(request.param, tmp_path) as opened:
        yield opened


def lenient_authorisation(source: str) -> Authorise:
    return replace(authorisation(1001, source), may_be_partial=True)


async def test_a_card_is_approved_for_less_where_that_was_allowed(lenient: Subject) -> None:
    answer = await lenient.provider.authorise(lenient_authorisation(PARTIAL))
    assert isinstance(answer, PartlyConfirmed)
    assert answer.amount == Money(700, "EUR")
    assert await lenient.kept_minor() == 700
    given = await lenient.provider.refund(refund_of(answer.provider_reference, 700))
    assert isinstance(given, Confirmed)
    assert await lenient.kept_minor() == 0


async def test_a_card_with_enough_is_approved_for_all_of_it(lenient: Subject) -> None:
    assert isinstance(await lenient.provider.authorise(lenient_authorisation("pm_card_visa")), Confirmed)
    assert await lenient.kept_minor() == 1001


async def test_nobody_who_did_not_allow_it_gets_less(lenient: Subject) -> None:
    answer = await lenient.provider.authorise(authorisation(1001, PARTIAL))
    assert isinstance(answer, Declined)
    assert answer.code == "insufficient_funds"
    assert await lenient.kept_minor() == 0


@pytest.mark.parametrize("is_named", [False, True])
async def test_an_approval_for_less_whose_answer_was_lost_is_found(lenient: Subject, is_named: bool) -> None:
    operation = lenient_authorisation(PARTIAL)
    await lenient.strike(Switch.FAIL_AFTER)
    assert isinstance(await lenient.provider.authorise(operation), Unknown)
    found = await lenient.provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Found)
    assert isinstance(found.answer, PartlyConfirmed)
    if is_named:
        named = await lenient.provider.find(operation, since_ms=SINCE_MS, known=found.answer.provider_reference)
        assert named == found
    assert found.answer.amount == Money(700, "EUR")

"""Cards that a PIN pad took without their bank: whose word counts, what is told again, and what is no bank's word."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from appliance.ports.provider import (
    BANK_UNREACHABLE,
    Absent,
    AcceptedOffline,
    Confirmed,
    Declined,
    Found,
    NotSent,
    Unknown,
)
from tests.integration.pad_desk import does, forward_of, offline, pay
from tests.pin_pad_here import PinPadHere


@pytest.fixture
async def here() -> AsyncIterator[PinPadHere]:
    async with PinPadHere() as pad:
        pad.use_by_hand(500)
        yield pad


async def test_a_card_without_its_bank_is_taken_only_where_the_shop_wants_it(here: PinPadHere) -> None:
    pads = here.provider()
    does(here, "offline")
    _, answer = await pay(here, pads)
    assert isinstance(answer, Declined)
    assert answer.code == BANK_UNREACHABLE
    assert here.twin.kept_minor == 500
    _, answer = await offline(here, pads)
    assert isinstance(answer, AcceptedOffline)
    does(here, "unreachable")
    _, answer = await pay(here, pads)
    assert isinstance(answer, Declined)
    assert answer.code == BANK_UNREACHABLE


async def test_each_bank_is_heard_when_the_pin_pad_hands_in(here: PinPadHere) -> None:
    pads = here.provider()
    forwards = []
    for customer in ("offline", "offline-refused"):
        asked, answer = await offline(here, pads, customer)
        assert isinstance(answer, AcceptedOffline)
        forwards.append(forward_of(asked, answer.provider_reference))
    does(here, "unreachable")
    assert await pads.forward(forwards[0]) == NotSent(reason=BANK_UNREACHABLE)
    assert isinstance(await pads.find(forwards[0], since_ms=0), Absent)
    does(here, "approve")
    agreed, refused = [await pads.forward(each) for each in forwards]
    assert isinstance(agreed, Confirmed)
    assert agreed.provider_reference == forwards[0].of
    assert isinstance(refused, Declined)
    assert refused.code == "card_declined"
    found = await pads.find(forwards[1], since_ms=0)
    assert isinstance(found, Found)
    assert found.answer == refused
    # Whoever did not hear it is told nothing by a second handing in, but of the last payment.
    afterwards = await here.anew()
    assert await afterwards.forward(forwards[0]) == agreed
    assert await afterwards.forward(forwards[1]) == Unknown(reason="pad_said_nothing_of_it")


async def test_a_banks_word_that_was_lost_is_told_again_by_the_last_payment(here: PinPadHere) -> None:
    pads = here.provider()
    asked, answer = await offline(here, pads)
    assert isinstance(answer, AcceptedOffline)
    forward = forward_of(asked, answer.provider_reference)
    does(here, "approve")
    here.twin.cuts_after = here.twin.sent + 3  # registered, handing in begun, and the line is cut before the status
    assert await pads.forward(forward) == Unknown(reason="connection_lost")
    assert isinstance(await pads.find(forward, since_ms=0), Absent)
    found = await pads.forward(forward)
    assert isinstance(found, Confirmed)
    assert (found.provider_reference, here.twin.kept_minor) == (forward.of, 500 + 1250)


@pytest.mark.parametrize("flag", ["offline", "none"])
async def test_a_last_payment_that_names_no_bank_is_no_word_of_one(here: PinPadHere, flag: str) -> None:
    pads = here.provider()
    asked, answer = await offline(here, pads)
    assert isinstance(answer, AcceptedOffline)
    does(here, "approve")
    here.twin.hands_in_silently = True
    here.twin.says_online = {"offline": b"\x00", "none": b""}[flag]
    forward = forward_of(asked, answer.provider_reference)
    assert await pads.forward(forward) == Unknown(reason="pad_said_nothing_of_it")


async def test_a_banks_word_on_an_earlier_payment_of_the_same_numbers_is_not_taken_for_this_one(
    here: PinPadHere,
) -> None:
    pads = here.provider()
    first, answer = await offline(here, pads)
    assert isinstance(answer, AcceptedOffline)
    does(here, "approve")
    assert isinstance(await pads.forward(forward_of(first, answer.provider_reference)), Confirmed)
    here.twin.trace = 1  # its counters began anew
    second, again = await offline(here, pads)
    assert isinstance(again, AcceptedOffline)
    assert again.provider_reference == answer.provider_reference
    does(here, "unreachable")
    assert await pads.forward(forward_of(second, again.provider_reference)) == NotSent(reason=BANK_UNREACHABLE)


@pytest.mark.parametrize("result", [0x6A, 0x7D, 0x9B, 0xFF])
async def test_a_line_that_broke_while_a_pin_pad_hands_in_is_no_banks_no(here: PinPadHere, result: int) -> None:
    pads = here.provider()
    asked, answer = await offline(here, pads, "offline-refused")
    assert isinstance(answer, AcceptedOffline)
    does(here, "approve")
    here.twin.refuses_with = result
    forward = forward_of(asked, answer.provider_reference)
    assert await pads.forward(forward) == Unknown(reason="pad_said_nothing_of_it")
    assert isinstance(await pads.find(forward, since_ms=0), Absent)

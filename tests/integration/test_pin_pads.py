"""PIN pads behind the adapter: what the last payment proves, and what it does not, whoever else was at the pad."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from appliance.adapters.pin_pad_name import parse
from appliance.model.ids import OperationId, ProviderKey
from appliance.model.money import Money
from appliance.ports.provider import (
    Absent,
    AcceptedOffline,
    Cancel,
    Confirmed,
    Declined,
    Found,
    NotSent,
    Offer,
    Refused,
    Unknown,
)
from tests.integration.pad_desk import ANSWER_S, back, does, names, offline, paid, pay, ready
from tests.pin_pad_here import PinPadHere
from tests.until import until

SHORT_S = 0.5


@pytest.fixture
async def here() -> AsyncIterator[PinPadHere]:
    async with PinPadHere() as pad:
        pad.use_by_hand(500)
        yield pad


async def test_a_payment_is_known_by_everything_that_the_pin_pad_says_of_it(here: PinPadHere) -> None:
    reference = await paid(here, here.provider())
    assert reference == "counter/52500041/2/2/1250/978/paid/1127143000"
    named = parse(reference)
    assert named is not None
    assert named.reference == reference


async def test_a_pin_pad_on_a_serial_line_sells_and_gives_back() -> None:
    async with PinPadHere(kind="pty") as here:
        pads = here.provider()
        reference = await paid(here, pads)
        assert isinstance(await pads.refund(back(reference, 250)), Confirmed)
        assert here.twin.kept_minor == 1000


@pytest.mark.parametrize("customer", ["cut", "broken"])
async def test_after_a_restart_the_next_payments_reading_is_the_witness(here: PinPadHere, customer: str) -> None:
    does(here, customer)
    broken, answer = await pay(here, here.provider())
    assert isinstance(answer, Unknown)
    does(here, "approve")
    afterwards = await here.anew()
    await paid(here, afterwards)  # of the same amount
    found = await afterwards.find(broken, since_ms=0)
    if customer == "cut":
        assert isinstance(found, Absent)
        assert here.twin.kept_minor == 500 + 1250
    else:
        assert isinstance(found, Found)
        assert isinstance(found.answer, Confirmed)
        assert found.answer.provider_reference.startswith("counter/52500041/2/")
        assert here.twin.kept_minor == 500 + 2 * 1250


async def test_what_a_new_box_sold_is_not_taken_for_what_a_lost_one_asked_for(here: PinPadHere) -> None:
    does(here, "cut")
    lost, answer = await pay(here, here.provider())
    assert isinstance(answer, Unknown)
    does(here, "approve")
    here.log.begun.clear()  # another box, with a log of its own
    here.log.names.clear()
    another = await here.anew()
    await paid(here, another)  # of the same amount
    assert isinstance(await another.find(lost, since_ms=0), Absent)


async def test_a_payment_by_hand_of_another_amount_leaves_ours_being_checked(here: PinPadHere) -> None:
    pads = here.provider()
    does(here, "cut")
    broken, _ = await pay(here, pads)
    does(here, "approve")
    here.use_by_hand(300)
    assert await pads.find(broken, since_ms=0) == Unknown(reason="pad_moved_on")


async def test_a_pin_pad_that_was_replaced_proves_nothing(here: PinPadHere) -> None:
    pads = here.provider()
    does(here, "cut")
    broken, _ = await pay(here, pads)
    does(here, "approve")
    here.twin.terminal = "52509999"
    assert await pads.find(broken, since_ms=0) == Unknown(reason="pad_moved_on")
    here.use_by_hand(1250)
    assert await pads.find(broken, since_ms=0) == Unknown(reason="pad_moved_on")


async def test_numbers_that_began_anew_are_not_taken_for_the_same_payment(here: PinPadHere) -> None:
    pads = here.provider()
    does(here, "cut")
    broken, _ = await pay(here, pads)
    does(here, "approve")
    here.twin.taken.clear()
    here.twin.trace = 0
    here.use_by_hand(1250)  # our amount under the number of the payment before ours
    assert await pads.find(broken, since_ms=0) == Unknown(reason="pad_moved_on")


async def test_a_pin_pad_that_never_took_a_card_proves_nothing(here: PinPadHere) -> None:
    here.twin.taken.clear()
    pads = here.provider()
    does(here, "cut")
    broken, _ = await pay(here, pads)
    does(here, "approve")
    assert await pads.find(broken, since_ms=0) == Unknown(reason="pad_tells_no_last_payment")
    await paid(here, pads)


async def test_a_second_till_that_read_before_the_first_one_paid_asks_for_no_card(here: PinPadHere) -> None:
    pads = here.provider()
    first, second = await ready(pads), await ready(pads, terminal="till-2")
    _, answer = await pay(here, pads, first)
    assert isinstance(answer, Confirmed)
    _, refused = await pay(here, pads, second)
    assert isinstance(refused, Refused)
    assert refused.code == "pad_moved_on"
    assert len(here.twin.taken) == 2


async def test_a_till_without_a_pin_pad_is_refused(here: PinPadHere) -> None:
    reference = names("till-9")
    offer = Offer(provider_key=ProviderKey("k"), reference=reference, amount=Money(100, "EUR"))
    refused = await here.provider().offer(offer)
    assert isinstance(refused, Refused)
    assert refused.code == "reader_not_bound"


async def test_a_pin_pad_that_tells_no_last_payment_sells_nothing(here: PinPadHere) -> None:
    here.twin.tells_last = False
    offer = Offer(provider_key=ProviderKey("k"), reference=names(), amount=Money(100, "EUR"))
    assert await here.provider().offer(offer) == NotSent(reason="pad_tells_no_last_payment")


async def test_a_silent_pin_pad_keeps_nobody_waiting_longer_than_its_answers(here: PinPadHere) -> None:
    pads = here.provider(answer_s=ANSWER_S)
    does(here, "off")
    offer = Offer(provider_key=ProviderKey("k"), reference=names(), amount=Money(100, "EUR"))
    async with asyncio.timeout(40):
        assert await pads.offer(offer) == NotSent(reason="pad_silent")
        assert not await pads.answers("counter")
    does(here, "approve")
    assert await pads.answers("counter")


async def test_a_customer_who_was_left_behind_is_sent_away_and_then_it_is_told(here: PinPadHere) -> None:
    pads = here.provider()
    asked = await ready(pads)
    here.twin.is_busy = True  # the box ended, and a customer still stands there
    assert await pads.find(asked, since_ms=0) == Unknown(reason="pad_busy")
    assert not here.twin.is_busy
    assert isinstance(await pads.find(asked, since_ms=0), Absent)


async def test_nobody_is_sent_away_from_a_pin_pad_that_is_used_by_hand(here: PinPadHere) -> None:
    pads = here.provider(is_used_by_hand=True)
    asked = await ready(pads)
    here.twin.is_busy = True
    assert await pads.find(asked, since_ms=0) == Unknown(reason="pad_busy")
    assert here.twin.is_busy


async def test_a_customer_is_given_up_by_the_till(here: PinPadHere) -> None:
    pads = here.provider()
    does(here, "timeout")
    asked = await ready(pads)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(pads.authorise(asked))
        await until("a PIN pad that asks its customer", lambda: here.twin.is_busy)
        pads.give_up(asked.provider_key)
    answer = asking.result()
    assert isinstance(answer, Declined)
    assert answer.code == "payment_aborted"
    assert not here.twin.is_busy


async def test_a_customer_who_was_given_up_before_is_not_asked_for_a_card(here: PinPadHere) -> None:
    pads = here.provider()
    asked = await ready(pads)
    pads.give_up(asked.provider_key)
    _, answer = await pay(here, pads, asked)
    assert isinstance(answer, Declined)
    assert answer.code == "payment_aborted"
    assert b"\x06\x01" not in [each[:2] for each in here.twin.commands]


async def test_a_customer_who_does_not_come_is_declined(here: PinPadHere) -> None:
    does(here, "timeout")
    _, answer = await pay(here, here.provider(customer_s=SHORT_S))
    assert isinstance(answer, Declined)
    assert answer.code == "customer_canceled"
    assert here.twin.kept_minor == 500


@pytest.mark.parametrize("customer", ["silent", "approve"])
async def test_an_abort_that_crosses_an_approval_is_not_believed(here: PinPadHere, customer: str) -> None:
    pads = here.provider(answer_s=ANSWER_S, customer_s=SHORT_S)
    asked = await ready(pads)
    does(here, "timeout")
    if customer == "silent":
        does(here, "silent")  # it took the money, and answers nothing any more
    else:
        # It says aborted, and the card was quicker: the money is taken when the till stops it.
        here.twin.on_abort = lambda: here.use_by_hand(1250)
    _, answer = await pay(here, pads, asked)
    assert isinstance(answer, Unknown)
    does(here, "approve")
    found = await pads.find(asked, since_ms=0)
    assert isinstance(found, Found)
    assert isinstance(found.answer, Confirmed)


async def test_the_last_payment_goes_back_by_its_receipt_and_an_older_one_to_a_card(here: PinPadHere) -> None:
    pads = here.provider()
    here.twin.undoes_last = True  # as a PIN pad does that does not read the receipt's number
    first = await paid(here, pads)
    second = await paid(here, pads)
    assert isinstance(await pads.refund(back(first, 1250)), Confirmed)
    assert [each.kind for each in here.twin.taken[-2:]] == ["payment", "refund"]
    assert isinstance(await pads.refund(back(second, 250)), Confirmed)
    third = await paid(here, pads)
    assert isinstance(await pads.refund(back(third, 1250)), Confirmed)
    assert here.twin.taken[-1].kind == "reversal"
    assert here.twin.kept_minor == 500 + 1000


@pytest.mark.parametrize(("customer", "proof"), [("cut", Absent), ("broken", Found)])
async def test_money_that_goes_back_while_the_box_dies_is_told_by_the_next_number(
    here: PinPadHere, customer: str, proof: type[Absent | Found]
) -> None:
    of = await paid(here, here.provider())
    operation = back(of, 250)
    here.log.begin(operation.reference.operation_id, None)
    does(here, customer)
    assert isinstance(await (await here.anew()).refund(operation), Unknown)
    does(here, "approve")
    assert isinstance(await (await here.anew()).find(operation, since_ms=0), proof)


async def test_money_that_somebody_gave_back_by_hand_is_not_taken_for_ours(here: PinPadHere) -> None:
    of = await paid(here, here.provider())
    here.use_by_hand(700)
    operation = back(of, 250)
    here.log.begin(operation.reference.operation_id, None)
    does(here, "cut")
    assert isinstance(await (await here.anew()).refund(operation), Unknown)
    does(here, "approve")
    here.use_by_hand(250)
    assert await (await here.anew()).find(operation, since_ms=0) == Unknown(reason="pad_moved_on")


async def test_a_last_payment_that_the_pin_pad_hid_before_is_not_taken_for_ours(here: PinPadHere) -> None:
    pads = here.provider()
    await paid(here, pads)
    here.twin.hides_last = True  # it aborts the question, as one that has none
    broken = await ready(pads)
    here.log.begin(broken.reference.operation_id, broken.of)
    does(here, "cut")
    assert isinstance(await pads.authorise(broken), Unknown)
    does(here, "approve")
    here.twin.hides_last = False
    assert await pads.find(broken, since_ms=0) == Unknown(reason="pad_moved_on")


def test_one_payment_that_is_told_in_two_ways_is_not_two() -> None:
    named = parse("counter/52500041/2/2/1250/978/paid/1127143000")
    assert named is not None
    assert not replace(named, trace=None).is_other(named)
    assert not named.is_other(replace(named, receipt=None))
    assert replace(named, trace=3, receipt=None).is_other(named)


@pytest.mark.parametrize("is_given_up", [False, True])
async def test_a_reversal_that_crosses_its_abort_is_not_followed_by_a_refund(
    here: PinPadHere, is_given_up: bool
) -> None:
    pads = here.provider(answer_s=ANSWER_S, customer_s=SHORT_S)
    of = await paid(here, pads)
    here.twin.waits_for_reversal = True
    if not is_given_up:
        here.twin.on_abort = here.twin.undo_last  # it says aborted, and the reversal was quicker
    operation = back(of, 1250)
    here.log.begin(operation.reference.operation_id, None)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(pads.refund(operation))
        if is_given_up:
            await until("a PIN pad that asks its customer", lambda: here.twin.is_busy)
            pads.give_up(operation.provider_key)
    answer = asking.result()
    assert b"\x06\x31" not in [each[:2] for each in here.twin.commands]
    if is_given_up:
        assert isinstance(answer, Declined)
        assert here.twin.kept_minor == 500 + 1250
    else:
        assert isinstance(answer, Unknown)
        assert here.twin.kept_minor == 500
        found = await pads.find(operation, since_ms=0)
        assert isinstance(found, Found)
        assert isinstance(found.answer, Confirmed)


async def test_what_was_accepted_offline_is_forgotten_while_it_is_the_last(here: PinPadHere) -> None:
    pads = here.provider()
    asked, answer = await offline(here, pads)
    assert isinstance(answer, AcceptedOffline)
    reference = replace(asked.reference, operation_id=OperationId(f"{asked.reference.payment_key}/2"))
    key = ProviderKey(reference.operation_id)
    cancel = Cancel(provider_key=key, reference=reference, amount=asked.amount, of=answer.provider_reference)
    does(here, "approve")
    assert isinstance(await pads.cancel(cancel), Confirmed)
    assert here.twin.kept_minor == 500
    refused = await pads.cancel(cancel)
    assert isinstance(refused, Refused)
    assert refused.code == "cannot_forget"


async def test_an_offline_payment_whose_line_broke_is_found_as_such(here: PinPadHere) -> None:
    pads = here.provider()
    asked = replace(await ready(pads), may_accept_offline=True)
    here.log.begin(asked.reference.operation_id, asked.of)
    here.twin.taken.append(here.twin.taken[-1].__class__(amount="000000001250", trace=9, receipt=9, bank="waits"))
    found = await pads.find(asked, since_ms=0)
    assert isinstance(found, Found)
    assert isinstance(found.answer, AcceptedOffline)
    told = await pads.find(asked, since_ms=0, known=found.answer.provider_reference)
    assert told == found  # its name alone is no bank's word
    unasked = replace(asked, may_accept_offline=False)
    found = await pads.find(unasked, since_ms=0)
    assert isinstance(found, Unknown)
    assert found.reason == "accepted_offline_unasked"

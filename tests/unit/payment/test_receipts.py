"""The receipt that comes with an answer proves that answer to a stranger, whichever intent its outcome answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.ledger.entry import decode
from appliance.ledger.receipt import verify_receipt
from appliance.ledger.trust import encode_trust, load_trust
from appliance.model.limits import HOUR_MS
from appliance.ports.provider import NotSent
from appliance.slip.link import fragment
from appliance.slip.slip import is_told_by_link, read_slip
from appliance.wire.answers import PaymentAnswer
from provisioning.verify.receipt_check import check_receipt
from tests.fakes.clock import FakeClock
from tests.fakes.offers import FakeOffers
from tests.fakes.provider import Switch
from tests.fakes.read_first import FakeReadFirst
from tests.unit.ledger.shop import genesis, owner
from tests.unit.payment.offline import Till, open_till
from tests.unit.payment.shop import Shop, open_shop
from tests.unit.payment.test_capture import capture, held
from tests.unit.payment.test_offers import begun, sale
from tests.unit.payment.test_refund import refund, sold, status

TRUST = encode_trust(owner().public, [genesis()])


def proven(answer: PaymentAnswer) -> tuple[str, ...]:
    """What the receipt of `answer` says, as a stranger reads it."""
    assert answer.receipt is not None
    report = check_receipt(answer.receipt, TRUST)
    assert report.ok, report.steps[-1].detail
    return report.sentences


def slip_standing(answer: PaymentAnswer) -> str:
    """What a slip says that is made of the receipt alone; its code tells the same."""
    assert answer.receipt is not None
    found = verify_receipt(answer.receipt, load_trust(TRUST).keys).entries
    slip = read_slip(found)
    assert is_told_by_link(slip, found)
    assert fragment(answer.receipt)
    return slip.standing.value


@pytest.fixture
async def till(tmp_path: Path) -> AsyncIterator[Till]:
    async with open_till(tmp_path, pads_are=FakeReadFirst) as opened:
        yield opened


@pytest.fixture
def offers() -> FakeOffers:
    return FakeOffers(clock=FakeClock())


@pytest.fixture
async def shop(tmp_path: Path, offers: FakeOffers) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, clock=FakeClock(), offers=offers) as opened:
        yield opened


async def test_cards_at_a_pad_are_proven_with_the_intent_that_took_the_money(till: Till) -> None:
    till.pads.is_bank_down = False
    approved = await till.sell(1_000)
    assert (approved.state, slip_standing(approved)) == ("approved", "paid")
    said = proven(approved)
    assert len(said) == 3
    assert "authorise 10.00 EUR of counter/" in said[1]
    till.pads.strike(Switch.REFUSE)
    declined = await till.sell(1_000)
    assert (declined.state, slip_standing(declined)) == ("declined", "declined")
    assert len(proven(declined)) == 3


@pytest.mark.parametrize("says_no", [False, True])
async def test_what_was_accepted_offline_is_proven_before_and_after_its_bank_spoke(till: Till, says_no: bool) -> None:
    accepted = await till.sell(1_000)
    assert (accepted.state, slip_standing(accepted)) == ("accepted_offline", "accepted_offline")
    assert "accepted offline" in proven(accepted)[-1]
    await till.forward()  # no bank can be asked
    waits = await till.status(accepted.key)
    assert (waits.state, slip_standing(waits)) == ("accepted_offline", "accepted_offline")
    assert "could not be asked" in proven(waits)[-1]
    if says_no:
        till.pads.says_no.add(till.reference())
    till.pads.is_bank_down = False
    till.shop.clock.pass_time(HOUR_MS)
    await till.forward()
    known = await till.status(accepted.key)
    expected = ("declined_after_handover", "declined_after_handover") if says_no else ("approved", "paid")
    assert (known.state, slip_standing(known)) == expected
    assert "forward 10.00 EUR of " in proven(known)[1]


async def test_an_outcome_of_another_sale_proves_nothing_of_the_offer_beside_it(till: Till) -> None:
    till.pads.is_bank_down = False
    paid, other = await till.sell(1_000), await till.sell(2_000)
    seqs = await till.shop.rows("SELECT first FROM payments ORDER BY first")
    assert other.receipt is not None
    own = [each.seq for each in verify_receipt(other.receipt, load_trust(TRUST).keys).entries]
    crossed = await till.shop.ledger.receipts([seqs[0][0], *own[1:]], 10_000)
    assert crossed is not None
    report = check_receipt(crossed.encode(), TRUST)
    assert report.code == "outcome_of_another_intent"
    assert paid.key in read_slip([decode(crossed.entries[0].entry)]).key
    without = await till.shop.ledger.receipts([own[0], own[-1]], 10_000)
    assert without is not None
    assert check_receipt(without.encode(), TRUST).code == "outcome_of_another_intent"


async def test_a_payer_who_agreed_and_one_who_did_not_are_proven(shop: Shop, offers: FakeOffers) -> None:
    key = await begun(shop)
    offers.agree("order_1")
    await shop.works_done()
    answer = await status(shop, key)
    assert (answer.state, slip_standing(answer)) == ("approved", "paid")
    assert len(proven(answer)) == 3
    offers.made = NotSent(reason="no_connection")
    unseen = shop.new_key()
    await shop.pipeline.pay(shop.request("payment", sale(), unseen))
    await shop.works_done()
    answer = await status(shop, unseen)
    assert (answer.state, slip_standing(answer)) == ("not_charged", "not_charged")
    assert len(proven(answer)) == 2


async def test_what_came_of_a_capture_or_a_refused_refund_is_proven(shop: Shop) -> None:
    of = await held(shop)
    await capture(shop, of)
    answer = await status(shop, of)
    assert answer.state == "approved"
    assert len(proven(answer)) == 3
    of = await sold(shop, card=1000)
    shop.provider.strike(Switch.REFUSE)
    refused = await refund(shop, of)
    assert refused.code is not None
    assert len(proven(refused)) == 3

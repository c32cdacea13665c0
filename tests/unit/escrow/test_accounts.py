"""Owns the promise of escrow about absence: what is not found in an account that nobody can compare has no end here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.ledger.parcel import OpenedParcel
from appliance.model.ids import ProviderReference
from appliance.model.operation import OperationKind
from appliance.model.sale import TenderKind
from appliance.payment.lost_operations import lost_accounts, lost_operations
from appliance.payment.providers import SetUp
from appliance.payment.recovery import Recovery
from appliance.ports.provider import Basis, Confirmed, Declined, Offer, Unknown
from tests.fakes.clock import FakeClock
from tests.fakes.offers import FakeOffers
from tests.fakes.provider import FakeProvider, Switch
from tests.unit.escrow.test_parcel import ask, cards_of, escrow_of, give, opened, parcel_of, sell
from tests.unit.payment.counter import PAYPAL
from tests.unit.payment.shop import SETTLE_MS, open_shop, rebuilt_equal
from tests.unit.payment.test_offers import sale

HERS = "acct_1 test"


class Forgetful(FakeOffers):
    """Knows no order, as PayPal hours later, and as another account at once."""

    async def look_at_offer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        if self.is_waiting_lost:
            return await super().look_at_offer(operation, of)
        return Declined(code="order_gone", message="Gone.", provider_reference=of, basis=Basis.ABSENCE)


async def lose(folder: Path, provider: FakeProvider, clock: FakeClock, account: str | None) -> OpenedParcel:
    """A box that asked for a card and never heard the answer, and then is gone."""
    async with open_shop(folder, clock=clock, asked=provider, more=cards_of(provider, account)) as first:
        await sell(replace(first, provider=provider), Switch.FAIL_AFTER)
        return opened(await parcel_of(first), first)


@pytest.mark.parametrize(
    ("there", "here", "code"),
    [
        (HERS, "acct_2 test", "account_other"),
        (HERS, "acct_1 live", "account_other"),
        (HERS, None, "account_unknown"),
        (None, HERS, "account_unknown"),  # as in every parcel of an older release
        (None, None, "account_unknown"),
    ],
)
async def test_what_another_account_does_not_hold_stays_unknown_until_the_right_one_is_asked(
    tmp_path: Path, there: str | None, here: str | None, code: str
) -> None:
    clock = FakeClock()
    parcel = await lose(tmp_path / "first", hers := FakeProvider(clock=clock), clock, there)
    other = FakeProvider(clock=clock)  # holds nothing of hers
    async with open_shop(tmp_path / "second", clock=clock, asked=other, more=cards_of(other, here)) as second:
        (found,) = await ask(second, parcel)
        assert (found.state, found.code, found.is_final) == ("unknown", code, False)
        assert (found.account_lost, found.account_here) == (there, here)
        assert [each.seq for each in await ask(second, parcel)] == [found.seq]  # said once
        await rebuilt_equal(second)
    async with open_shop(tmp_path / "second", clock=clock, asked=hers, more=cards_of(hers, HERS)) as second:
        (found,) = await ask(second, parcel)
        assert (found.state, found.is_final) == ("confirmed", True)  # it was charged all the time
        kinds = await second.rows("SELECT count(*) FROM entries WHERE kind = 'escrow_recovered'")
        assert kinds == [(2,)]
        await rebuilt_equal(second)
    async with open_shop(tmp_path / "second", clock=clock, asked=other, more=cards_of(other, here)) as second:
        assert [each.seq for each in await ask(second, parcel)] == [found.seq]  # an end is an end


@pytest.mark.parametrize(("here", "state"), [("app hers", "rejected"), ("app his", "unknown"), (None, "unknown")])
async def test_an_order_that_is_gone_ended_only_in_the_account_that_was_asked(
    tmp_path: Path, here: str | None, state: str
) -> None:
    clock = FakeClock()
    offers = Forgetful(clock=clock)
    offers.is_waiting_lost = True
    paypal = SetUp(
        tender=TenderKind.PAYPAL, provider=offers, offers=offers, admit=lambda: None, account=lambda: "app hers"
    )
    async with open_shop(tmp_path / "first", clock=clock, offers=offers, more={PAYPAL: paypal}) as first:
        await first.pipeline.pay(first.request("payment", sale()))
        await first.works_done()
        parcel = opened(await parcel_of(first), first)
    offers.is_waiting_lost = False
    asked = replace(paypal, account=lambda: here)
    async with open_shop(tmp_path / "second", clock=clock, offers=offers, more={PAYPAL: asked}) as second:
        (found,) = await ask(second, parcel)
        assert (found.operation.kind, found.state, found.is_final) == ("offer", state, state == "rejected")


async def test_what_only_the_lost_log_would_know_is_no_end_in_any_account(tmp_path: Path) -> None:
    clock = FakeClock()
    cards = cards_of(provider := FakeProvider(clock=clock), HERS)
    parcel = await lose(tmp_path / "first", provider, clock, HERS)
    (card,) = lost_operations(parcel.entries.values())
    assert card.operation is not None
    # No address was shown yet as far as the parcel knows; the box may have shown it since, and taken the money.
    offer = replace(card, kind="offer", operation=replace(card.operation, kind=OperationKind.OFFER, provider=PAYPAL))
    offers = FakeOffers(clock=clock)
    paypal = SetUp(tender=TenderKind.PAYPAL, provider=offers, offers=offers, admit=lambda: None, account=lambda: HERS)
    async with open_shop(tmp_path / "second", clock=clock, more={**cards, PAYPAL: paypal}) as second:
        recovery = Recovery(
            ledger=second.ledger, operations_of=lambda _: second.operations, clock=clock, settle_ms=SETTLE_MS
        )
        (found,) = await recovery.ask(parcel.log_id, parcel.header.origin, [offer], {"stripe": HERS, "paypal": HERS})
        assert (found.state, found.code, found.is_final) == ("unknown", "parcel_may_be_older", False)


async def test_a_parcel_names_the_accounts_as_soon_as_they_are_known(tmp_path: Path) -> None:
    clock = FakeClock()
    provider = FakeProvider(clock=clock)
    said: list[str] = []
    cards = SetUp(
        tender=TenderKind.CARD, provider=provider, admit=provider.admit, account=lambda: said[0] if said else None
    )
    async with open_shop(tmp_path, clock=clock, more={next(iter(cards_of(provider, None))): cards}) as shop:
        escrow = escrow_of(shop)
        before = await give(shop, escrow)
        assert before.parcel is not None
        assert lost_accounts(opened(before.parcel, shop).entries.values()) == {}
        said.append(HERS)
        after = await give(shop, escrow)
        assert after.parcel is not None
        assert lost_accounts(opened(after.parcel, shop).entries.values()) == {"stripe": HERS}

"""Refunds at Coinbase: under way first, found by either name, never more than is left, never sent twice."""

from __future__ import annotations

from appliance.model.ids import ProviderKey, ProviderReference
from appliance.model.limits import HOUR_MS
from appliance.model.money import Money
from appliance.ports.provider import Absent, Confirmed, Declined, Found, NotSent, Refund, Refused, Unknown
from provisioning.sandbox.stripe_twin_faults import Fault
from tests.coinbase_twin_here import STRANGER, CoinbaseHere
from tests.contract.test_provider import reference
from tests.fakes.clock import SkippingClock
from tests.integration.test_coinbase import CHECKOUTS, left_behind, paid, payment


def refund(of: ProviderReference, amount_minor: int, currency: str = "EUR") -> Refund:
    names = reference()
    key = ProviderKey(names.operation_id)
    return Refund(provider_key=key, reference=names, amount=Money(amount_minor, currency), of=of)


async def test_a_refund_under_way_is_being_checked_and_found_by_either_name() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        of, provider = await paid(here), here.provider()
        here.refunds(after_ms=HOUR_MS)
        back = refund(of, 500)
        pending = await provider.refund(back)
        assert isinstance(pending, Unknown)
        assert pending.reason == "refund_pending"
        assert isinstance(await provider.find(back, since_ms=0), Unknown)
        await here.clock.sleep(HOUR_MS)  # of a clock that skips
        for known in (None, pending.provider_reference):
            found = await provider.find(back, since_ms=0, known=known)
            assert isinstance(found, Found)
            assert isinstance(found.answer, Confirmed)
            assert (found.answer.provider_reference, found.answer.settled) == (pending.provider_reference, "5.40 USDC")
        other = refund(of, 500)
        assert isinstance(await provider.find(other, since_ms=0), Absent)
        assert isinstance(await provider.find(other, since_ms=0, known=pending.provider_reference), Unknown)
        assert here.kept_minor() == 750


async def test_a_refund_that_comes_to_nothing_is_declined_and_the_money_is_still_there() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        of, provider = await paid(here), here.provider()
        here.refunds(fail=True)
        answer = await provider.refund(refund(of, 1250))
        assert isinstance(answer, Declined)
        assert (answer.code, here.kept_minor()) == ("refund_failed", 1250)
        here.refunds()
        assert isinstance(await provider.refund(refund(of, 1250)), Confirmed)


async def test_a_refund_whose_checkout_cannot_be_read_was_not_sent() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        of = await paid(here)
        here.twin.faults.add(Fault(fault="error_then_success", path=CHECKOUTS, method="GET"))
        assert await here.provider().refund(refund(of, 100)) == NotSent(reason="provider_failed")
        assert here.kept_minor() == 1250


async def test_what_was_never_paid_is_not_refunded() -> None:
    async with CoinbaseHere() as here:
        of = await left_behind(here, payment())
        answer = await here.provider().refund(refund(of, 100))
        assert isinstance(answer, Refused)
        assert answer.code == "payment_not_captured"


async def test_another_account_refunds_nothing_of_ours() -> None:
    async with CoinbaseHere(SkippingClock()) as here:
        of = await paid(here)
        assert isinstance(await here.provider(name=STRANGER).refund(refund(of, 100)), Refused)
        assert here.kept_minor() == 1250

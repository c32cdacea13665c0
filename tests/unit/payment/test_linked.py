"""Owns the promise of linked retries: of all tries of one sale, one keeps its money, whichever answer was late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.ledger.draft import Draft
from appliance.model.errors import Rejected
from appliance.model.ids import request_key
from appliance.model.limits import SALE_TRIES_MAX
from appliance.payment.linked import outlived_by
from tests.fakes.provider import Switch
from tests.unit.payment.offline import open_till
from tests.unit.payment.shop import Shop, open_shop

TOTAL = 700


async def pay(
    shop: Shop, *, key: str | None = None, of: str | list[str] | None = None, tender: str = "card", **more: Any
) -> str:
    key = shop.new_key() if key is None else key
    sale = {"currency": "EUR", "amount_minor": TOTAL, "tenders": [{"kind": tender, "amount_minor": TOTAL, **more}]}
    await shop.pipeline.pay(
        shop.request("payment", sale if of is None else {**sale, "retry_of": [of] if isinstance(of, str) else of}, key)
    )
    await shop.works_done()
    return key


async def refused(shop: Shop, **how: Any) -> str:
    before = await shop.rows("SELECT count(*) FROM entries")
    with pytest.raises(Rejected) as refusal:
        await pay(shop, **how)
    assert await shop.rows("SELECT count(*) FROM entries") == before, "a refusal writes nothing"
    return refusal.value.code


async def states(shop: Shop, *keys: str) -> list[str]:
    return [(await shop.pipeline.status(shop.request("status", {"of": key}))).state for key in keys]


async def lost(shop: Shop, switch: Switch = Switch.FAIL_AFTER, **how: Any) -> str:
    """A card payment whose answer got lost; it happened all the same, or never reached the provider."""
    shop.provider.strike(switch)
    return await pay(shop, **how)


async def test_cash_in_its_place_takes_the_card_back_when_it_turns_out_charged(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop)
        second = await pay(shop, of=first, tender="cash")
        assert await states(shop, first, second) == ["being_checked", "approved"]
        assert shop.provider.charged_minor() == TOTAL
        await shop.settle()
        assert await states(shop, first, second) == ["reversed", "approved"]
        assert shop.provider.charged_minor() == 0


async def test_another_card_in_its_place_takes_the_first_one_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop)
        second = await pay(shop, of=first)
        await shop.settle()
        assert await states(shop, first, second) == ["reversed", "approved"]
        assert shop.provider.charged_minor() == TOTAL


async def test_a_first_try_that_was_approved_meanwhile_is_taken_back_with_the_second_ones_outcome(
    tmp_path: Path,
) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop)
        second = await lost(shop, of=first)
        await shop.settle()
        assert sorted(await states(shop, first, second)) == ["approved", "reversed"]
        assert shop.provider.charged_minor() == TOTAL


async def test_a_second_try_that_is_declined_leaves_the_first_to_stand(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop)
        second = await pay(shop, of=first, source="pm_card_visa_chargeDeclinedInsufficientFunds")
        await shop.settle()
        assert await states(shop, first, second) == ["approved", "declined"]
        assert shop.provider.charged_minor() == TOTAL


async def test_a_second_try_that_the_cashier_stopped_does_not_take_the_first_one_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop)
        second = await lost(shop, of=first)
        await shop.pipeline.abort(shop.request("abort", {"of": second}))
        await shop.settle()
        assert await states(shop, first, second) == ["approved", "reversed"]
        assert shop.provider.charged_minor() == TOTAL


async def test_a_first_try_that_never_came_is_refused_when_it_comes(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = shop.new_key()
        second = await pay(shop, of=first, tender="cash")
        assert await refused(shop, key=first) == "payment_cancelled"
        assert await states(shop, first, second) == ["cancelled", "approved"]
        assert shop.provider.asked == []


async def test_a_retry_that_never_came_does_not_hide_the_first_try(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first, never_came = await lost(shop), shop.new_key()
        third = await pay(shop, of=[never_came, first], tender="cash")
        await shop.settle()
        assert await states(shop, first, never_came, third) == ["reversed", "cancelled", "approved"]
        assert shop.provider.charged_minor() == 0
        assert await refused(shop, key=never_came, of=first) == "payment_cancelled"


async def test_of_tries_that_never_came_none_may_come_any_more(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first, second = shop.new_key(), shop.new_key()
        third = await pay(shop, of=[second, first, second], tender="cash")
        assert await refused(shop, key=second, of=first) == "payment_cancelled"
        assert await refused(shop, key=first) == "payment_cancelled"
        assert await states(shop, first, second, third) == ["cancelled", "cancelled", "approved"]


async def test_a_retry_that_comes_late_is_refused_while_one_that_did_not_know_of_it_stands(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop, Switch.FAIL_BEFORE)
        await pay(shop, of=first, tender="cash")
        assert await refused(shop, of=[shop.new_key(), first], tender="cash") == "retry_exists"


async def test_a_first_try_that_stands_needs_no_second(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop)
        assert await refused(shop, of=first, tender="cash") == "retry_not_needed"
        assert await refused(shop, of=first) == "retry_not_needed"
        assert shop.provider.charged_minor() == TOTAL


async def test_a_try_has_one_retry_that_may_stand(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop)
        second = await lost(shop, of=first)
        assert await refused(shop, of=first, tender="cash") == "retry_exists"
        third = await pay(shop, of=second, tender="cash")
        await shop.settle()
        assert await states(shop, first, second, third) == ["reversed", "reversed", "approved"]
        assert shop.provider.charged_minor() == 0


async def test_after_a_declined_retry_comes_another(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop, Switch.FAIL_BEFORE)
        await pay(shop, of=first, source="pm_card_visa_chargeDeclinedInsufficientFunds")
        third = await pay(shop, of=first, tender="cash")
        await shop.settle()
        assert await states(shop, first, third) == ["not_charged", "approved"]


async def test_a_retry_of_a_declined_try_is_refused_while_a_try_beside_it_may_stand(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop, Switch.FAIL_BEFORE)
        declined = await pay(shop, of=first, source="pm_card_visa_chargeDeclinedInsufficientFunds")
        beside = await pay(shop, of=first, tender="cash")
        assert await refused(shop, of=declined, tender="cash") == "retry_exists"
        await shop.settle()
        assert await states(shop, first, declined, beside) == ["not_charged", "declined", "approved"]


async def test_the_same_retry_again_gets_the_same_answer(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop)
        second = await pay(shop, of=first, tender="cash")
        await shop.settle()
        entries = await shop.rows("SELECT count(*) FROM entries")
        assert await pay(shop, of=first, tender="cash", key=second) == second
        assert await shop.rows("SELECT count(*) FROM entries") == entries
        assert await refused(shop, tender="cash", key=second) == "key_reused"


async def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        assert await refused(shop, key=key, of=key) == "key_reused"
        assert await refused(shop, of="no-key-but-as-long-as-a-key-would-be") == "key_not_uuidv7"
        paid = await pay(shop, tender="cash")
        refund = shop.new_key()
        await shop.pipeline.refund(shop.request("refund", {"of": paid}, refund))
        assert await refused(shop, of=refund) == "payment_unknown"
        item = {"currency": "EUR", "amount_minor": 1, "tenders": [{"kind": "cash", "amount_minor": 1}]}
        batch = {"items": [{"key": shop.new_key(), "payment": {**item, "retry_of": [paid]}}]}
        (result,) = (await shop.batch.take(shop.request("batch", batch))).results
        assert (result.state, result.code) == ("refused", "batch_takes_no_retry")


async def test_a_sale_is_not_tried_for_ever(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        last = None
        for _ in range(SALE_TRIES_MAX):
            last = await lost(shop, Switch.FAIL_BEFORE, of=last)
        assert await refused(shop, of=last, tender="cash") == "retry_chain_too_long"


async def test_declined_tries_beside_each_other_count_too(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop, Switch.FAIL_BEFORE)
        for _ in range(SALE_TRIES_MAX - 1):
            await pay(shop, of=first, source="pm_card_visa_chargeDeclinedInsufficientFunds")
        assert await refused(shop, of=first, tender="cash") == "retry_chain_too_long"
        assert await refused(shop, of=[shop.new_key() for _ in range(SALE_TRIES_MAX)]) == "retry_chain_too_long"


async def test_links_are_rebuilt_from_the_log(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await pay(shop, of=await lost(shop), tender="cash")
        await pay(shop, of=shop.new_key(), tender="cash")
        await pay(shop, of=await lost(shop))
        tables = ("payments", "requests", "operations", "retries")
        before = [await shop.rows(f"SELECT * FROM {table}") for table in tables]
        await shop.ledger.rebuild()
        assert [await shop.rows(f"SELECT * FROM {table}") for table in tables] == before


async def test_what_changed_between_look_and_commit_is_looked_at_again(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await lost(shop)
        second = await lost(shop, Switch.FAIL_BEFORE, of=first)
        outcome = Draft(kind="outcome", actor="terminal:till-1", time_ms=0, body=b"")
        outlived = await shop.ledger.read(lambda found: outlived_by(found, request_key(second), outcome))
        assert [str(key) for key in outlived.keys] == [first]
        await shop.pipeline.reverse(shop.request("reversal", {"of": first}))
        with pytest.raises(Rejected, match="changed"):
            await shop.ledger.read(outlived.guard.check)


async def test_what_paid_beside_a_lost_card_goes_back_when_the_sale_is_tried_again(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        first = (await till.sell(600, cash=100)).key
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        assert await states(till.shop, first) == ["declined_after_handover"]
        second = await pay(till.shop, of=first, tender="cash")
        await till.shop.settle()
        assert await states(till.shop, first, second) == ["reversed", "approved"]

"""Owns the promise of a sale that is paid in parts: no more than its total is taken, and it counts exactly once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.model.errors import Rejected
from appliance.model.limits import PARTS_MAX
from tests.fakes.provider import Switch
from tests.unit.payment.parts import (
    DECLINED,
    TOTAL,
    books,
    first_body,
    later_body,
    pay,
    refused,
    reverse,
    stands,
    states,
    status,
    taken,
)
from tests.unit.payment.shop import open_shop


async def test_two_cards_pay_one_sale(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000))
        sale = await stands(shop, first)
        assert (sale.key, sale.total_minor, sale.paid_minor, sale.remaining_minor) == (first, TOTAL, 2000, 3000)
        second = await pay(shop, later_body(first, 3000))
        answer = await status(shop, second)
        assert (answer.state, answer.total_minor) == ("approved", 3000)
        sale = await stands(shop, second)
        assert [(part.key, part.total_minor) for part in sale.parts] == [(first, 2000), (second, 3000)]
        assert (sale.remaining_minor, sale.closed) == (0, "no")
        assert shop.provider.charged_minor() == TOTAL


async def test_the_sale_counts_once_when_it_is_complete(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000, "cash"))
        period = await books(shop)
        assert (period.totals.sales, period.totals.total, period.taxes) == (0, 0, ())
        assert period.totals.parts_taken == 2000
        assert period.cash is not None
        assert period.cash.left == 2000, "the money is in the drawer, whatever becomes of the sale"
        assert [(each.paid, each.remaining, each.terminal) for each in period.incomplete] == [(2000, 3000, "till-1")]
        await pay(shop, later_body(first, 3000, tip_minor=300))
        period = await books(shop)
        assert (period.totals.sales, period.totals.total, period.totals.tips) == (1, TOTAL, 300)
        assert (period.totals.parts_taken, period.totals.parts_sold) == (5300, 5300)
        assert [(tax.gross, tax.tax) for tax in period.taxes] == [(TOTAL, 798)]
        assert taken(period) == {"cash": (2000, 0), "card": (3300, 0)}
        assert period.incomplete == ()


async def test_a_declined_part_changes_nothing_about_the_others(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000))
        declined = await pay(shop, later_body(first, 3000, source=DECLINED))
        assert await states(shop, first, declined) == ["approved", "declined"]
        assert (await stands(shop, first)).remaining_minor == 3000
        await pay(shop, later_body(first, 3000, "cash"))
        assert (await stands(shop, first)).remaining_minor == 0
        assert (await books(shop)).totals.sales == 1


async def test_a_declined_first_part_leaves_the_whole_sale_open(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000, source=DECLINED))
        assert (await stands(shop, first)).remaining_minor == TOTAL
        assert (await books(shop)).incomplete == (), "nothing was taken, nobody has to be reminded"
        await pay(shop, later_body(first, TOTAL))
        assert (await books(shop)).totals.total == TOTAL


async def test_parts_never_take_more_than_the_sale_is_worth(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000))
        assert await refused(shop, later_body(first, 3001)) == "part_above_remaining"
        shop.provider.strike(Switch.FAIL_AFTER)
        unknown = await pay(shop, later_body(first, 2500))
        assert await states(shop, unknown) == ["being_checked"]
        assert await refused(shop, later_body(first, 501, "cash")) == "part_above_remaining", "it may yet be taken"
        await pay(shop, later_body(first, 500, "cash"))
        await shop.settle()
        assert (await stands(shop, first)).remaining_minor == 0
        assert await refused(shop, later_body(first, 1, "cash")) == "part_above_remaining"
        assert (await books(shop)).totals.total == TOTAL


async def test_of_two_tills_that_pay_the_last_part_one_does(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        first = await pay(shop, first_body(2000))
        both = [pay(shop, later_body(first, 3000), terminal=name) for name in ("till-1", "till-2")]
        ended = await asyncio.gather(*both, return_exceptions=True)
        refusals = [each for each in ended if isinstance(each, Rejected)]
        assert [refusal.code for refusal in refusals] == ["part_above_remaining"]
        assert shop.provider.charged_minor() == TOTAL
        assert (await books(shop)).totals.sales == 1


async def test_the_same_part_again_is_the_same_part(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000))
        body = later_body(first, 3000)
        second = await pay(shop, body)
        assert await pay(shop, body, second) == second
        assert shop.provider.charged_minor() == TOTAL


async def test_a_part_whose_result_is_unknown_is_tried_again(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000))
        shop.provider.strike(Switch.FAIL_AFTER)
        lost = await pay(shop, later_body(first, 3000))
        assert await refused(shop, later_body(first, 3000, "cash")) == "part_above_remaining"
        again = await pay(shop, later_body(first, 3000, "cash", retry_of=[lost]))
        await shop.settle()
        assert await states(shop, first, lost, again) == ["approved", "reversed", "approved"]
        assert shop.provider.charged_minor() == 2000
        period = await books(shop)
        assert (period.totals.sales, period.totals.total) == (1, TOTAL)
        assert (period.totals.parts_taken - period.totals.parts_sold - period.totals.parts_returned) == 0


async def test_two_tries_of_one_part_take_its_place_once(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(1000))
        shop.provider.strike(Switch.FAIL_AFTER, 2)
        lost = await pay(shop, later_body(first, 3000))
        smaller = await pay(shop, later_body(first, 500, retry_of=[lost]))
        assert await refused(shop, later_body(first, 1001, "cash")) == "part_above_remaining"
        await pay(shop, later_body(first, 1000, "cash"))
        await shop.settle()
        assert sorted(await states(shop, lost, smaller)) == ["approved", "reversed"]
        assert (await stands(shop, first)).paid_minor <= TOTAL
        await books(shop)


async def test_a_first_part_tried_again_takes_the_whole_sale_with_it(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.provider.strike(Switch.FAIL_AFTER)
        lost = await pay(shop, first_body(2000))
        shop.provider.strike(Switch.FAIL_AFTER)
        unclear = await pay(shop, first_body(2000, retry_of=[lost]))
        assert await refused(shop, later_body(lost, 3000, "cash")) == "retry_exists"
        again = await pay(shop, first_body(2000, "cash", retry_of=[unclear, lost]))
        assert await refused(shop, later_body(lost, 3000, "cash")) == "sale_closed"
        await shop.settle()
        assert await states(shop, lost, unclear, again) == ["reversed", "reversed", "approved"]
        assert await refused(shop, later_body(lost, 3000, "cash")) == "sale_closed"
        await pay(shop, later_body(again, 3000, "cash"))
        period = await books(shop)
        assert (period.totals.sales, period.totals.total) == (1, TOTAL)


@pytest.mark.parametrize("source", [DECLINED, None])
async def test_no_part_joins_a_retry_while_an_earlier_try_of_the_whole_sale_may_stand(
    tmp_path: Path, source: str | None
) -> None:
    async with open_shop(tmp_path) as shop:
        shop.provider.strike(Switch.FAIL_AFTER)
        whole = await pay(shop, first_body(TOTAL))
        shop.provider.strike(Switch.FAIL_BEFORE if source is None else Switch.NONE)
        again = await pay(shop, first_body(2000, source=source, retry_of=[whole]))
        # Only the outcome of `again` takes `whole` back; cash beside it would stay, too.
        assert await refused(shop, later_body(again, 3000, "cash")) == "retry_exists"
        await shop.settle()
        assert await states(shop, whole) == ["approved"]
        assert await refused(shop, later_body(again, 3000, "cash")) == "retry_exists"
        assert shop.provider.charged_minor() == TOTAL


async def test_parts_join_one_of_two_linked_sales_only(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000, source=DECLINED))
        again = await pay(shop, first_body(4000, source=DECLINED, retry_of=[first]))
        await pay(shop, later_body(first, 2500, "cash"))
        assert await refused(shop, later_body(again, TOTAL, "cash")) == "retry_exists"
        await pay(shop, later_body(first, 2500, "cash"))
        assert (await stands(shop, first)).remaining_minor == 0


async def test_a_retry_is_refused_where_parts_pay_for_one_that_it_does_not_name(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        whole = await pay(shop, first_body(TOTAL, source=DECLINED))
        parted = await pay(shop, first_body(2000, source=DECLINED, retry_of=[whole]))
        await pay(shop, later_body(parted, TOTAL, "cash"))
        assert await refused(shop, first_body(TOTAL, retry_of=[whole])) == "retry_exists"
        assert shop.provider.charged_minor() == 0


async def test_a_sale_with_other_parts_is_not_tried_again_from_outside(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.provider.strike(Switch.FAIL_AFTER)
        first = await pay(shop, first_body(2000))
        await pay(shop, later_body(first, 1000, "cash"))
        assert await refused(shop, first_body(2000, "cash", retry_of=[first])) == "retry_of_another_sale"
        within = await pay(shop, later_body(first, 2000, "cash", retry_of=[first]))
        await shop.settle()
        assert await states(shop, first, within) == ["reversed", "approved"]
        assert (await stands(shop, first)).remaining_minor == 2000
        await pay(shop, later_body(first, 2000))
        assert (await books(shop)).totals.sales == 1


async def test_a_part_is_not_tried_again_as_another_sale(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000))
        shop.provider.strike(Switch.FAIL_AFTER)
        lost = await pay(shop, later_body(first, 3000))
        plain = {"currency": "EUR", "amount_minor": 3000, "tenders": [{"kind": "cash", "amount_minor": 3000}]}
        assert await refused(shop, {**plain, "retry_of": [lost]}) == "retry_of_another_sale"
        other = await pay(shop, first_body(1000))
        assert await refused(shop, later_body(other, 3000, "cash", retry_of=[lost])) == "retry_of_another_sale"


async def test_what_leaves_nothing_open_takes_no_parts(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        plain = await pay(
            shop, {"currency": "EUR", "amount_minor": 100, "tenders": [{"kind": "cash", "amount_minor": 100}]}
        )
        assert await refused(shop, later_body(plain, 1, "cash")) == "sale_not_in_parts"
        assert await refused(shop, later_body(shop.new_key(), 1, "cash")) == "payment_unknown"
        first = await pay(shop, first_body(2000))
        second = await pay(shop, later_body(first, 1000))
        assert await refused(shop, later_body(second, 1000)) == "sale_not_in_parts"
        never_came = shop.new_key()
        await reverse(shop, never_came)
        assert await refused(shop, later_body(never_came, 1, "cash")) == "sale_closed"


async def test_what_is_no_part_is_refused(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000))
        later = later_body(first, 3000)
        lines = [{"sku": "COAT", "unit_price_minor": 3000}]
        assert await refused(shop, {**later, "lines": lines}) == "amount_and_lines"
        assert await refused(shop, {**later, "remaining_minor": 1}) == "part_malformed"
        assert await refused(shop, {**later, "total_minor": 3000}) == "part_malformed"
        assert await refused(shop, {**later, "amount_minor": 0}) == "amount_not_positive"
        assert await refused(shop, {**first_body(1, "cash"), "remaining_minor": TOTAL}) == "part_malformed"
        assert await refused(shop, {**first_body(2000), "capture": "later"}) == "later_needs_one_card"
        assert await refused(shop, {**later, "capture": "later"}) == "later_needs_one_card"


async def test_a_sale_has_a_bounded_number_of_parts(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(100, "cash"))
        for _ in range(PARTS_MAX - 1):
            await pay(shop, later_body(first, 1, "cash"))
        assert await refused(shop, later_body(first, 1, "cash")) == "too_many_parts"


async def test_cash_is_rounded_once_with_the_part_that_completes_the_sale(tmp_path: Path) -> None:
    async with open_shop(tmp_path, cash_step_minor=5) as shop:
        body = first_body(1998, "cash")
        body["tenders"][0]["amount_minor"] = 2000
        assert await refused(shop, {**body, "rounding_minor": 2}) == "rounding_wrong"
        first = await pay(shop, first_body(1998))
        early = later_body(first, 1001, "cash", rounding_minor=-1)
        assert await refused(shop, early) == "rounding_wrong"
        await pay(shop, later_body(first, 1000, "cash"))
        await pay(shop, later_body(first, 2002, "cash", rounding_minor=-2))
        period = await books(shop)
        assert (period.totals.total, period.totals.rounding) == (TOTAL, -2)
        assert taken(period) == {"card": (1998, 0), "cash": (3000, 0)}


async def test_no_voucher_is_sold_with_a_sale_in_parts_and_none_is_stored(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000, "cash"))
        sold = {"act": "issue", "amount_minor": 100, "of": first}
        with pytest.raises(Rejected, match="voucher_not_paid"):
            await shop.vouchers.act(shop.request("voucher", sold))
        part = later_body(first, 3000, "cash")
        stored = await shop.batch.take(shop.request("batch", {"items": [{"key": shop.new_key(), "payment": part}]}))
        assert [result.code for result in stored.results] == ["batch_takes_no_part"]

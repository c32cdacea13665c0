"""Owns the promise of money that goes back of a sale in parts: all of it, to each tender its own, and counted once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.ledger.draft import Draft
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.ids import request_key
from appliance.payment.guards import Unchanged, require_payment
from appliance.wire import entries
from appliance.wiring.payments import make_give_back
from tests.fakes.provider import Switch
from tests.unit.payment.parts import (
    DECLINED,
    TOTAL,
    books,
    first_body,
    later_body,
    pay,
    refund,
    refused,
    reverse,
    stands,
    states,
    status,
    taken,
)
from tests.unit.payment.shop import Shop, open_shop


async def paid(shop: Shop) -> tuple[str, str]:
    """20.00 by one card, 30.00 by another."""
    first = await pay(shop, first_body(2000))
    return first, await pay(shop, later_body(first, 3000))


async def test_giving_up_an_incomplete_sale_takes_every_part_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000))
        cash = await pay(shop, later_body(first, 1000, "cash"))
        declined = await pay(shop, later_body(first, 500, source=DECLINED))
        await reverse(shop, first)
        await shop.settle()
        assert await states(shop, first, cash, declined) == ["reversed", "reversed", "declined"]
        assert shop.provider.charged_minor() == 0
        sale = await stands(shop, first)
        assert (sale.closed, sale.remaining_minor, sale.paid_minor) == ("yes", 0, 0)
        assert await refused(shop, later_body(first, 100, "cash")) == "sale_closed"
        period = await books(shop)
        assert (period.totals.sales, period.totals.total, period.totals.reversals, period.taxes) == (0, 0, 0, ())
        assert (period.totals.parts_taken, period.totals.parts_returned) == (3000, 3000)
        assert taken(period) == {"card": (2000, 2000), "cash": (1000, 1000)}
        assert period.incomplete == ()


async def test_a_complete_sale_is_voided_before_the_close(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first, second = await paid(shop)
        await reverse(shop, first)
        await shop.settle()
        assert await states(shop, first, second) == ["reversed", "reversed"]
        assert shop.provider.charged_minor() == 0
        period = await books(shop)
        assert (period.totals.sales, period.totals.total) == (1, TOTAL)
        assert (period.totals.reversals, period.totals.reversed, period.totals.parts_returned) == (2, TOTAL, 0)


async def test_a_sale_is_told_as_given_up_once_every_part_went_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000, "cash"))
        shop.provider.strike(Switch.FAIL_AFTER)
        lost = await pay(shop, later_body(first, 3000))
        assert (await reverse(shop, first)).state == "being_checked"
        assert (await status(shop, first)).state == "being_checked", "the card may be charged still"
        assert await refused(shop, {"of": first}, "reversal") == "already_undone"
        await shop.settle()
        assert await states(shop, first, lost) == ["reversed", "reversed"]
        assert (await reverse(shop, first)).state == "reversed"
        assert shop.provider.charged_minor() == 0
        await books(shop)


async def test_the_resolver_and_the_verb_take_a_part_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the world: the verb began a second operation beside the resolver's, and reversed cash twice."""
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000, "cash"))
        card = await pay(shop, later_body(first, 3000))
        append = Ledger.append

        async def then_the_resolver(ledger: Ledger, drafts: Sequence[Draft], *rest: Any, **more: Any) -> Any:
            written = await append(ledger, drafts, *rest, **more)
            if any(each.kind == entries.SALE_GIVEN_UP for each in drafts):
                monkeypatch.setattr(Ledger, "append", append)
                await shop.resolver.look()
            return written

        monkeypatch.setattr(Ledger, "append", then_the_resolver)
        await reverse(shop, first)
        await shop.settle()
        assert await states(shop, first, card) == ["reversed", "reversed"]
        asked = "SELECT kind, state FROM operations WHERE kind = 'reverse'"
        assert await shop.rows(asked) == [("reverse", "confirmed")]
        assert await shop.rows("SELECT count(*) FROM entries WHERE kind = 'reversal'") == [(2,)]


async def test_no_operation_begins_beside_an_open_one_whatever_was_looked_at(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        card, _ = await paid(shop)
        shop.provider.strike(Switch.FAIL_AFTER)
        await shop.pipeline.refund(shop.request("refund", {"of": card}))
        await shop.works_done()
        standing = await shop.ledger.read(lambda found: require_payment(found, request_key(card)))
        give_back = make_give_back(shop.ledger, shop.operations, shop.clock)
        with pytest.raises(Rejected, match="payment_open"):
            await give_back.rest("", Unchanged(standing=standing, fresh=None), asked_by=None)
        asked = "SELECT kind, state FROM operations WHERE kind <> 'authorise'"
        assert await shop.rows(asked) == [("refund", "unknown")]


async def test_giving_up_goes_on_after_a_reversal_that_the_provider_refused(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000, "cash"))
        card = await pay(shop, later_body(first, 1000))
        shop.provider.strike(Switch.REFUSE)
        await reverse(shop, first)
        await shop.settle()
        assert await states(shop, first, card) == ["reversed", "approved"]
        period = await books(shop)
        assert [(each.paid, each.closed) for each in period.incomplete] == [(1000, 1)]
        await reverse(shop, first)
        await shop.settle()
        assert await states(shop, card) == ["reversed"]
        assert (await books(shop)).incomplete == ()


async def test_a_part_that_stayed_behind_can_be_refunded(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000, "cash"))
        card = await pay(shop, later_body(first, 1000))
        shop.provider.strike(Switch.REFUSE)
        await reverse(shop, first)
        await shop.settle()
        assert (await refund(shop, card)).given_minor == 1000
        period = await books(shop)
        assert (period.totals.parts_returned, period.totals.refunded) == (3000, 0)


async def test_a_reversed_later_part_opens_the_sale_again(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first, second = await paid(shop)
        await reverse(shop, second)
        assert await states(shop, first, second) == ["approved", "reversed"]
        period = await books(shop)
        assert (period.totals.sales, period.totals.total, period.totals.reversals, period.taxes) == (0, 0, 0, ())
        assert [(each.paid, each.remaining) for each in period.incomplete] == [(2000, 3000)]
        await pay(shop, later_body(first, 3000, "cash"))
        period = await books(shop)
        assert (period.totals.sales, period.totals.total) == (1, TOTAL)
        assert taken(period) == {"card": (5000, 3000), "cash": (3000, 0)}


async def test_an_abort_of_the_first_part_stops_that_part_alone(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.provider.strike(Switch.FAIL_AFTER)
        first = await pay(shop, first_body(2000))
        await shop.pipeline.abort(shop.request("abort", {"of": first}))
        await shop.settle()
        assert await states(shop, first) == ["reversed"]
        await pay(shop, later_body(first, TOTAL))
        assert (await stands(shop, first)).remaining_minor == 0
        assert (await books(shop)).totals.sales == 1


async def test_each_part_gives_back_what_it_took_and_never_more(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first, second = await paid(shop)
        assert await refused(shop, {"of": first, "amount_minor": 2001}, "refund") == "refund_above_left"
        assert (await refund(shop, second, amount_minor=2500)).given_minor == 2500
        assert await refused(shop, {"of": second, "amount_minor": 501}, "refund") == "refund_above_left"
        assert (await refund(shop, second)).given_minor == 500
        assert (await refund(shop, first)).given_minor == 2000
        assert await states(shop, first, second) == ["refunded", "refunded"]
        assert shop.provider.charged_minor() == 0
        period = await books(shop)
        assert (period.totals.sales, period.totals.refunds, period.totals.refunded) == (1, 3, TOTAL)
        assert await refused(shop, later_body(first, 1, "cash")) == "sale_closed"


async def test_lines_are_the_sales_whichever_part_pays_for_them(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first, second = await paid(shop)
        scarf = [{"index": 1, "quantity_thousandths": 1000}]
        coat = [{"index": 0, "quantity_thousandths": 1000}]
        assert (await refund(shop, second, lines=scarf)).given_minor == 1500
        assert await refused(shop, {"of": first, "lines": scarf}, "refund") == "line_already_refunded"
        assert await refused(shop, {"of": second, "lines": coat}, "refund") == "refund_above_left"
        assert (
            await refused(shop, {"of": second, "lines": coat, "amount_minor": 3501}, "refund") == "refund_above_lines"
        )
        assert (await refund(shop, second, lines=coat, amount_minor=1500)).given_minor == 1500
        assert (await refund(shop, first, amount_minor=2000)).given_minor == 2000
        period = await books(shop)
        assert sum(tax.returned for tax in period.taxes) == TOTAL
        assert sum(tax.returned_tax for tax in period.taxes) == 798
        assert period.totals.refunded == TOTAL


async def test_a_line_does_not_go_back_by_two_parts_at_once(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first, second = await paid(shop)
        scarf = [{"index": 1, "quantity_thousandths": 1000}]
        shop.provider.strike(Switch.FAIL_AFTER)
        assert (await refund(shop, second, lines=scarf)).state == "being_checked"
        assert await refused(shop, {"of": first, "lines": scarf}, "refund") == "payment_open"
        await shop.settle()
        assert await refused(shop, {"of": first, "lines": scarf}, "refund") == "line_already_refunded"


async def test_a_sale_that_is_not_complete_is_not_refunded(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000))
        assert await refused(shop, {"of": first}, "refund") == "sale_not_complete"


async def test_lines_and_an_amount_are_for_sales_in_parts_alone(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        tenders = [{"kind": "cash", "amount_minor": TOTAL}]
        plain = await pay(shop, {"currency": "EUR", "amount_minor": TOTAL, "tenders": tenders})
        part = {"of": plain, "lines": [{"index": 0, "quantity_thousandths": 1000}], "amount_minor": 1}
        assert await refused(shop, part, "refund") == "amount_and_lines"


async def test_a_sale_that_was_refunded_and_then_reversed_counts_what_it_kept(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first, second = await paid(shop)
        await refund(shop, second, amount_minor=1000)
        await reverse(shop, second)
        await shop.settle()
        period = await books(shop)
        assert (period.totals.sales, period.totals.refunded, period.totals.reversed) == (1, 1000, 2000)
        assert await refused(shop, later_body(first, 3000, "cash")) == "sale_closed"
        await reverse(shop, first)
        await shop.settle()
        period = await books(shop)
        assert (period.totals.refunded, period.totals.reversed, period.totals.parts_returned) == (1000, 4000, 0)
        assert shop.provider.charged_minor() == 0


async def test_a_part_that_a_refund_gave_back_was_sold_also_when_a_reversal_came_meanwhile(tmp_path: Path) -> None:
    """Found by the world: the sale, refunded in part, said that it had never been paid in full."""
    async with open_shop(tmp_path) as shop:
        first, second = await paid(shop)
        shop.provider.strike(Switch.FAIL_AFTER)
        assert (await refund(shop, second)).state == "being_checked"
        assert (await reverse(shop, second)).state == "being_checked"
        await shop.settle()
        assert await states(shop, first, second) == ["approved", "refunded"]
        sale = await stands(shop, first)
        assert (sale.paid_minor, sale.remaining_minor) == (TOTAL, 0)
        assert shop.provider.charged_minor() == 2000
        period = await books(shop)
        assert (period.totals.sales, period.totals.refunded, period.totals.reversed) == (1, 3000, 0)


async def test_a_sale_completed_on_the_next_day_counts_on_that_day(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first = await pay(shop, first_body(2000, "cash"))
        closed = await shop.days.close()
        assert closed.day.period.totals.sales == 0
        assert [each.paid for each in closed.day.period.incomplete] == [2000]
        shop.clock.pass_time(86_400_000)
        await pay(shop, later_body(first, 3000))
        period = await books(shop)
        assert (period.totals.sales, period.totals.total) == (1, TOTAL)
        assert (period.totals.parts_taken, period.totals.parts_sold) == (3000, 5000)

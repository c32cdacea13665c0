"""Sales paid in parts under faults and second thoughts, in any order: no total is overdrawn, and the books add up.

The steps are drawn by Hypothesis; after each of them the shop's report adds up (`Bug` otherwise), and once everything
has settled:
- the parts of a sale that stand never cover more than its total, and the provider keeps what the log says of them;
- a sale is counted exactly when its parts cover it, once, with its taxes;
- money for sales that are not complete is what their parts keep, to the cent;
- of a sale that was given up nothing is kept; a rebuild gives the same tables.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.model.errors import Rejected, Unavailable
from appliance.model.till import Scope
from appliance.till.records import read_period
from tests.fakes.provider import PARTIAL, Switch
from tests.unit.payment.parts import DECLINED, TOTAL, books, first_body, later_body
from tests.unit.payment.shop import Shop, open_shop

PARTS: Final = 6
TENDERS: Final = (("cash", None), ("card", None), ("card", None), ("card", PARTIAL), ("card", DECLINED))
SWITCHES: Final = (Switch.NOT_SENT, Switch.FAIL_BEFORE, Switch.FAIL_AFTER, Switch.LIE)
_PART: Final = st.integers(0, PARTS - 1)
_COVERS: Final = st.sampled_from([1000, 2000, 3000, 5000])
STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), _PART, st.tuples(_COVERS, st.sampled_from(TENDERS), st.sampled_from([0, 50]))),
        st.tuples(st.just("pay"), _PART, st.tuples(_COVERS, st.sampled_from(TENDERS), st.sampled_from([0, 50]))),
        st.tuples(st.just("again"), _PART, st.tuples(_PART, _COVERS, st.sampled_from(TENDERS))),
        st.tuples(st.just("refund"), _PART, st.sampled_from([None, 300, 2000])),
        st.tuples(st.just("lines"), _PART, st.integers(0, 1)),
        st.tuples(st.sampled_from(["reversal", "abort"]), _PART, st.none()),
        st.tuples(st.just("strike"), st.integers(1, 2), st.sampled_from(SWITCHES)),
        st.tuples(st.sampled_from(["look", "wait", "rest"]), st.just(0), st.none()),
    ),
    max_size=14,
)


class Story:
    """One sale: the first key is its first part's, which comes before anything else."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.keys = [shop.new_key() for _ in range(PARTS)]
        self.bodies: dict[str, dict[str, Any]] = {}

    def body(self, number: int, covers: int, tender: tuple[str, str | None], **more: Any) -> dict[str, Any]:
        """What the first request for the part said."""
        if tender[1] == PARTIAL:
            more |= {"tip_minor": 0, "partial": "accepted"}
        if number == 0:
            made = first_body(min(covers, 3000), *tender, **more)
        else:
            made = later_body(self.keys[0], covers, *tender, **more)
        return self.bodies.setdefault(self.keys[number], made)

    async def take(self, step: tuple[Any, Any, Any]) -> None:
        """Do one thing; being refused or put off is a lawful answer."""
        shop = self.shop
        match step:
            case "pay", number, (covers, tender, tip):
                await self.ask("payment", self.body(number, covers, tender, tip_minor=tip), self.keys[number])
            case "again", number, (earlier, covers, tender):
                again = self.body(number, covers, tender, retry_of=[self.keys[earlier]])
                await self.ask("payment", again, self.keys[number])
            case "refund", number, amount:
                part = {} if amount is None else {"amount_minor": amount}
                await self.ask("refund", {"of": self.keys[number], **part})
            case "lines", number, line:
                lines = [{"index": line, "quantity_thousandths": 1000}]
                await self.ask("refund", {"of": self.keys[number], "lines": lines, "amount_minor": 1000})
            case ("reversal" | "abort") as verb, number, _:
                await self.ask(verb, {"of": self.keys[number]})
            case "strike", times, switch:
                shop.provider.strike(switch, times)
            case "look", _, _:
                await shop.resolver.look()
            case "wait", _, _:
                shop.clock.pass_time(70_000)
            case _:
                await shop.works_done()
        await shop.ledger.read(lambda connection: read_period(connection, Scope.SHOP, "", "EUR"))

    async def ask(self, verb: str, body: dict[str, Any], key: str | None = None) -> None:
        pipeline = self.shop.pipeline
        asks = {
            "payment": pipeline.pay,
            "refund": pipeline.refund,
            "reversal": pipeline.reverse,
            "abort": pipeline.abort,
        }
        try:
            await asks[verb](self.shop.request(verb, body, key))
        except (Rejected, Unavailable):
            return

    async def check(self) -> None:
        shop = self.shop
        shop.provider.strikes_left = 0
        await shop.settle()
        period = await books(shop)
        stands = "state IN ('approved', 'partly_refunded', 'refunded')"
        kept = "SELECT coalesce(sum(card - card_back), 0) FROM payments WHERE is_charged"
        assert (await shop.rows(kept))[0][0] == shop.provider.charged_minor()
        sales = await shop.rows(
            "SELECT total, closed IS NOT NULL, is_refunded, (SELECT coalesce(sum(covers), 0) FROM sale_parts"
            f" JOIN payments ON payments.key = payment WHERE sale = sales_in_parts.key AND {stands})"
            " FROM sales_in_parts"
        )
        assert all(covered <= total for total, _, _, covered in sales), "the parts took more than the sale is worth"
        given_up = (
            "SELECT coalesce(sum(cash - cash_back + card - card_back), 0) FROM payments p JOIN sale_parts"
            f" ON payment = p.key JOIN sales_in_parts s ON s.key = sale WHERE closed IS NOT NULL AND {stands}"
        )
        assert await shop.rows(given_up) == [(0,)], "a sale that was given up keeps nothing"
        totals = period.totals
        complete = [total for total, is_closed, is_refunded, covered in sales if covered == total]
        if not any(is_closed or is_refunded for _, is_closed, is_refunded, _ in sales):
            assert (totals.sales, totals.total) == (len(complete), sum(complete))
        assert totals.total == TOTAL * totals.sales
        assert sum(tax.tax for tax in period.taxes) == 798 * totals.sales
        held = totals.parts_taken - totals.parts_sold - totals.parts_returned
        assert held == sum(each.paid for each in period.incomplete)
        left = "SELECT coalesce(sum(cash - cash_back + card - card_back), 0) FROM payments WHERE "
        (money,) = (await shop.rows(f"{left}{stands}"))[0]
        net = totals.total + totals.tips + totals.rounding - totals.refunded - totals.reversed
        assert net + held == money, "what the books keep is what the payments keep"


async def tell(first: tuple[int, tuple[str, str | None]], steps: list[tuple[Any, Any, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_shop(Path(folder)) as shop:
            story = Story(shop)
            for step in [("pay", 0, (*first, 0)), *steps]:
                await story.take(step)
            await story.check()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(first=st.tuples(_COVERS, st.sampled_from(TENDERS)), steps=STEPS)
def test_no_order_of_parts_overdraws_a_sale_or_unbalances_the_books(
    first: tuple[int, tuple[str, str | None]], steps: list[tuple[Any, Any, Any]]
) -> None:
    asyncio.run(tell(first, steps))

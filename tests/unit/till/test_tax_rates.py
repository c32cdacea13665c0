"""A terminal that invents tax codes: the state and the report stay as small as they are, and add up."""

from __future__ import annotations

from pathlib import Path

from appliance.model.limits import TAX_RATES_MAX, TAXES_LISTED_MAX
from appliance.model.till import OTHER_TAXES, Tally, What, labelled, rates_of
from appliance.till.tally import decode_sums
from tests.unit.payment.shop import Shop, open_shop
from tests.unit.till.acts import pay, report

TAXES_PER_SALE = 32


async def sell(shop: Shop, *codes: str, rate: int = 0) -> None:
    """One line of 1.00 under each tax code, in as many sales as that takes."""
    for first in range(0, len(codes), TAXES_PER_SALE):
        await sell_once(shop, codes[first : first + TAXES_PER_SALE], rate)


async def sell_once(shop: Shop, codes: tuple[str, ...], rate: int) -> None:
    lines = [{"sku": "A", "unit_price_minor": 100, "tax_code": code, "tax_rate_basis_points": rate} for code in codes]
    taxes = [{"tax_code": code, "rate_basis_points": rate, "net_minor": 100, "tax_minor": 0} for code in codes]
    total = 100 * len(codes)
    body = {"currency": "EUR", "lines": lines, "taxes": taxes, "total_minor": total}
    await pay(shop, {**body, "tenders": [{"kind": "cash", "amount_minor": total}]})


async def stored(shop: Shop) -> bytes:
    ((sums,),) = await shop.rows("SELECT sums FROM till_totals")
    assert isinstance(sums, bytes)
    return sums


async def test_new_tax_code_in_every_sale_grows_neither_state_nor_report(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await sell(shop, *[f"code-{number:04}" for number in range(3 * TAX_RATES_MAX)])
        full = await stored(shop)
        for number in range(5):
            await sell(shop, f"later-{number}")
        await sell(shop, "code-0000", "later-0", rate=0)
        now = await stored(shop)
        assert len(rates_of(decode_sums(now))) == TAX_RATES_MAX
        assert len(now) <= len(full) + 8, "numbers may grow by a digit"
        period = (await report(shop, "x")).period
        assert len(period.taxes) == TAXES_LISTED_MAX + 1
        assert period.taxes[0].gross == 200, "what has a total of its own keeps it"
        assert (period.taxes[-1].tax_code, period.taxes[-1].gross) == (
            OTHER_TAXES,
            period.totals.total - 100 * (TAXES_LISTED_MAX + 1),
        )


async def test_code_named_like_the_rest_is_part_of_the_rest(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await sell(shop, OTHER_TAXES, *[f"code-{number:04}" for number in range(TAX_RATES_MAX + 1)])
        codes = [tax.tax_code for tax in (await report(shop, "z")).period.taxes]
        assert codes.count(OTHER_TAXES) == 1
        assert codes[-1] == OTHER_TAXES


def test_all_of_a_rate_goes_the_same_way_and_the_first_stay() -> None:
    tally = Tally({})
    for number in range(TAX_RATES_MAX + 2):
        tally.add({labelled(what, "code", number): 1 for what in (What.GROSS, What.NET, What.TAX)})
    tally = Tally(tally.sums)  # as it is read back
    tally.add({labelled(What.NET, "code", TAX_RATES_MAX): 1, labelled(What.NET, "code", 0): 1, What.SALES: 1})
    others = [tally.sums[labelled(what, OTHER_TAXES)] for what in (What.GROSS, What.NET, What.TAX)]
    assert others == [2, 3, 2]
    assert tally.sums[labelled(What.NET, "code", 0)] == 2
    assert tally.sums[What.SALES] == 1
    assert rates_of(tally.sums) == {("code", number) for number in range(TAX_RATES_MAX)}

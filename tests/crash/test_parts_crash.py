"""The box dies around a sale that is paid in parts: no part is lost or doubled, and giving up goes on to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.model.ids import RequestKey
from appliance.wire.answers import PaymentAnswer, SaleAnswer
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import AMOUNT, ANSWER_MS, PART, check_all, reverse
from tests.crash.invariants import Told
from tests.crash.shop import CrashShop
from tests.crash.test_crash_table import LAST_WORDS_MS, die_during

REST = AMOUNT - PART


async def pay_first(client: TerminalClient, key: RequestKey, kind: str, wait_ms: int) -> PaymentAnswer:
    body = PaymentBody(currency="EUR", amount_minor=AMOUNT, remaining_minor=REST, tenders=(_tender(kind, PART),))
    return await client.payment(body, key=key, deadline=client.deadline(wait_ms))


async def pay_rest(
    client: TerminalClient, key: RequestKey, first: RequestKey, kind: str, wait_ms: int
) -> PaymentAnswer:
    body = PaymentBody(currency="EUR", amount_minor=REST, part_of=str(first), tenders=(_tender(kind, REST),))
    return await client.payment(body, key=key, deadline=client.deadline(wait_ms))


def _tender(kind: str, amount: int) -> TenderBody:
    return TenderBody(kind="cash" if kind == "cash" else "card", amount_minor=amount)


async def begun(shop: CrashShop, kind: str) -> tuple[RequestKey, RequestKey]:
    """A first part that stands; and the key of the next one."""
    await shop.start()
    async with shop.till() as client:
        first, second = client.new_key(), client.new_key()
        assert (await pay_first(client, first, kind, ANSWER_MS)).state == "approved"
    await shop.kill()
    return first, second


async def stands(client: TerminalClient, key: RequestKey) -> SaleAnswer:
    sale = (await client.status(key, deadline=client.deadline(ANSWER_MS))).sale
    assert sale is not None
    return sale


@pytest.mark.parametrize(
    ("kind", "point", "end"),
    [
        ("cash", "before sale", "approved"),
        ("cash", "after sale", "approved"),
        ("card", "before intent", "approved"),
        ("card", "after intent", "not_charged"),
        ("card", "before ask", "not_charged"),
        ("card", "after ask", "approved"),
        ("card", "before outcome", "approved"),
        ("card", "after outcome", "approved"),
        ("card", "signed", "approved"),
    ],
)
async def test_the_last_part_is_paid_once_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, kind: str, point: str, end: str
) -> None:
    first, second = await begun(shop, "card")
    await die_during(shop, point, lambda client: pay_rest(client, second, first, kind, LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        assert (await pay_rest(client, second, first, kind, ANSWER_MS)).state == end
        sale = await stands(client, first)
        assert (sale.paid_minor, sale.remaining_minor) == ((AMOUNT, 0) if end == "approved" else (PART, REST))
        assert [part.key for part in sale.parts] == [str(first), str(second)]
    told = [Told(key=str(first), payment=str(first), state="approved")]
    await check_all(shop, [*told, Told(key=str(second), payment=str(second), state=end)], tmp_path / "copy")


@pytest.mark.parametrize(
    "point",
    [
        "before sale_given_up",
        "after sale_given_up",
        "before intent",
        "after intent",
        "after ask",
        "before outcome",
        "after outcome",
        "before reversal",
        "after reversal",
        "answer reversal",
    ],
)
async def test_a_sale_that_is_given_up_is_given_back_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    first, second = await begun(shop, "cash")
    await shop.start()
    async with shop.till() as client:
        assert (await pay_rest(client, second, first, "card", ANSWER_MS)).state == "approved"
        asked = client.new_key()
    await shop.kill()
    await die_during(shop, point, lambda client: reverse(client, asked, first, LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        assert (await reverse(client, asked, first, ANSWER_MS)).state == "reversed"
        sale = await stands(client, first)
        assert [part.state for part in sale.parts] == ["reversed", "reversed"]
        assert (sale.closed, sale.paid_minor, sale.remaining_minor) == ("yes", 0, 0)
    charges = await shop.twin.charges(str(second))
    assert sum(each["captured"] - each["refunded"] for each in charges) == 0
    told = [Told(key=str(key), payment=str(key), state="reversed") for key in (first, second)]
    await check_all(shop, told, tmp_path / "copy")


@pytest.mark.parametrize("point", ["after intent", "after ask", "before outcome", "after outcome"])
async def test_a_card_approved_for_less_is_recorded_for_that_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    await shop.start()
    async with shop.till() as client:
        key = client.new_key()
    await shop.kill()
    await die_during(shop, point, lambda client: pay_less(client, key, LAST_WORDS_MS))
    await shop.start()
    end, took = ("not_charged", 0) if point == "after intent" else ("approved", AMOUNT * 70 // 100)
    async with shop.till() as client:
        answer = await pay_less(client, key, ANSWER_MS)
        assert answer.state == end
        sale = await stands(client, key)
        assert (sale.paid_minor, sale.remaining_minor) == (took, AMOUNT - took)
    assert sum(each["captured"] for each in await shop.twin.charges(str(key))) == took
    await check_all(shop, [Told(key=str(key), payment=str(key), state=end)], tmp_path / "copy")


async def pay_less(client: TerminalClient, key: RequestKey, wait_ms: int) -> PaymentAnswer:
    tender = TenderBody(kind="card", amount_minor=AMOUNT, source="pm_card_debit_partialAuthorization")
    body = PaymentBody(currency="EUR", amount_minor=AMOUNT, tenders=(tender,), partial="accepted")
    return await client.payment(body, key=key, deadline=client.deadline(wait_ms))

"""The box dies around a voucher: issued once with one code, spent once, and whole beside a card that was not paid."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey
from appliance.wire.answers import PaymentAnswer, VoucherAnswer
from appliance.wire.requests import PaymentBody, TenderBody, VoucherBody
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import ANSWER_MS, check_all
from tests.crash.invariants import Told
from tests.crash.shop import CrashShop
from tests.crash.test_crash_table import LAST_WORDS_MS, die_during

WORTH, TAKEN, CARD = 2_000, 1_200, 300
ISSUE = VoucherBody(act="issue", amount_minor=WORTH, reason="sorry for the wait")


async def issue(client: TerminalClient, key: RequestKey, wait_ms: int = ANSWER_MS) -> VoucherAnswer:
    return await client.voucher(ISSUE, key=key, deadline=client.deadline(wait_ms))


async def left(client: TerminalClient, code: str) -> int:
    body = VoucherBody(act="show", code=code)
    return (await client.voucher(body, key=client.new_key(), deadline=client.deadline(ANSWER_MS))).left_minor


async def spend(
    client: TerminalClient, key: RequestKey, code: str, *, card: int = 0, source: str | None = None, wait_ms: int
) -> PaymentAnswer:
    tenders = [TenderBody(kind="voucher", amount_minor=TAKEN, source=code)]
    if card:
        tenders.append(TenderBody(kind="card", amount_minor=card, source=source))
    body = PaymentBody(currency="EUR", amount_minor=TAKEN + card, tenders=tuple(tenders))
    return await client.payment(body, key=key, deadline=client.deadline(wait_ms))


async def begin(shop: CrashShop) -> tuple[str, RequestKey]:
    """The code of a voucher, and the key of the sale that will spend it; the box is stopped."""
    await shop.start()
    async with shop.till() as client:
        code = (await issue(client, client.new_key())).code
        key = client.new_key()
    await shop.kill()
    assert code is not None
    return code, key


@pytest.mark.parametrize("point", ["before voucher_issued", "after voucher_issued", "signed", "answer voucher"])
async def test_a_voucher_is_issued_once_with_one_code_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    await shop.start()
    async with shop.till() as client:
        key = client.new_key()
    await shop.kill()

    await die_during(shop, point, lambda client: issue(client, key, LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        first, again = await issue(client, key), await issue(client, key)
        assert (first.code, first.seq, first.left_minor) == (again.code, again.seq, WORTH)
        assert first.code is not None
        assert await left(client, first.code) == WORTH
    await check_all(shop, [], tmp_path / "copy")


@pytest.mark.parametrize("point", ["before sale", "after sale", "signed", "answer payment"])
async def test_a_voucher_is_spent_once_wherever_the_box_dies(shop: CrashShop, tmp_path: Path, point: str) -> None:
    code, key = await begin(shop)

    await die_during(shop, point, lambda client: spend(client, key, code, wait_ms=LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        for _ in range(2):
            assert (await spend(client, key, code, wait_ms=ANSWER_MS)).state == "approved"
        with pytest.raises(Rejected, match="voucher_short"):
            await spend(client, client.new_key(), code, wait_ms=ANSWER_MS)
        assert await left(client, code) == WORTH - TAKEN
    await check_all(shop, [Told(key=str(key), payment=str(key), state="approved")], tmp_path / "copy")


@pytest.mark.parametrize("point", ["before intent", "after intent", "after ask", "before outcome", "after outcome"])
@pytest.mark.parametrize("source", [None, "pm_card_visa_chargeDeclined"])
async def test_beside_a_card_it_is_taken_exactly_when_the_sale_is_paid(
    shop: CrashShop, tmp_path: Path, point: str, source: str | None
) -> None:
    code, key = await begin(shop)

    await die_during(
        shop, point, lambda client: spend(client, key, code, card=CARD, source=source, wait_ms=LAST_WORDS_MS)
    )
    await shop.start()
    async with shop.till() as client:
        end = await spend(client, key, code, card=CARD, source=source, wait_ms=ANSWER_MS)
        assert end.state in ("approved", "declined", "not_charged")
        assert (end.state == "approved") is (await left(client, code) == WORTH - TAKEN)
        if end.state == "approved":
            await client.reversal(key, key=client.new_key(), deadline=client.deadline(ANSWER_MS))
        assert await left(client, code) == WORTH
    await check_all(shop, [], tmp_path / "copy")


async def test_two_terminals_spend_one_voucher_and_one_wins(shop: CrashShop, tmp_path: Path) -> None:
    code, _ = await begin(shop)
    await shop.start()
    async with shop.till("till-1") as one, shop.till("till-2") as other:

        async def end(client: TerminalClient, card: int) -> str:
            try:
                return (await spend(client, client.new_key(), code, card=card, wait_ms=ANSWER_MS)).state
            except Rejected as refusal:
                return refusal.code

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(end(client, card)) for client in (one, other) for card in (0, CARD)]
        assert sorted(task.result() for task in running) == ["approved", *["voucher_short"] * 3]
        assert await left(one, code) == WORTH - TAKEN
    await check_all(shop, [], tmp_path / "copy")

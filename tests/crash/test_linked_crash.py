"""The box dies around a sale that is tried again: of its tries one keeps its money, wherever that is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import structs

from appliance.model.errors import OutcomeUnknown, Rejected
from appliance.model.ids import RequestKey
from appliance.wire.answers import PaymentAnswer
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import AMOUNT, ANSWER_MS, check_all, pay_card, sale
from tests.crash.invariants import Told
from tests.crash.shop import CrashShop
from tests.crash.test_crash_table import LAST_WORDS_MS, die_during

_LOOK_S = 0.1


async def try_again(
    client: TerminalClient, key: RequestKey, of: tuple[RequestKey, ...], tender: str, wait_ms: int
) -> PaymentAnswer:
    body = structs.replace(sale(tender), retry_of=tuple(map(str, of)))
    return await client.payment(body, key=key, deadline=client.deadline(wait_ms))


async def begin(shop: CrashShop) -> tuple[RequestKey, RequestKey]:
    """A card that was charged and whose answer is lost, with nothing that tells; and the key of the next try."""
    await shop.twin.fault("drop_reply", path="/v1/payment_intents", method="POST")
    await shop.twin.fault("rate_limited", path="/v1/payment_intents", method="GET", times=10_000)
    await shop.start()
    async with shop.till() as client:
        first, second = client.new_key(), client.new_key()
        with suppress(OutcomeUnknown):
            await pay_card(client, first, first, LAST_WORDS_MS)
    await shop.twin.until_moved(str(first))
    await shop.kill()
    return first, second


async def die_at_the_next_try(
    shop: CrashShop, point: str, key: RequestKey, of: tuple[RequestKey, ...], tender: str
) -> None:
    await die_during(shop, point, lambda client: try_again(client, key, of, tender, LAST_WORDS_MS))


async def end_of(client: TerminalClient, key: RequestKey) -> str:
    """How the payment stands once nothing about it is open."""
    async with asyncio.timeout(ANSWER_MS / 1_000):
        while True:
            answer = await client.status(key, deadline=client.deadline(ANSWER_MS))
            if answer.state != "being_checked":
                return answer.state
            await asyncio.sleep(_LOOK_S)


async def check_kept(shop: CrashShop, states: dict[RequestKey, str], kept: int, copy: Path) -> None:
    charges = [each for key in states for each in await shop.twin.charges(str(key))]
    assert sum(each["captured"] - each["refunded"] for each in charges) == kept
    await check_all(shop, [Told(key=str(key), payment=str(key), state=state) for key, state in states.items()], copy)


@pytest.mark.parametrize("point", ["before sale", "after sale", "signed", "answer payment"])
async def test_cash_in_place_of_a_card_takes_it_back_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    first, second = await begin(shop)
    await die_at_the_next_try(shop, point, second, (first,), "cash")
    await shop.start()
    async with shop.till() as client:
        assert (await try_again(client, second, (first,), "cash", ANSWER_MS)).state == "approved"
        await shop.twin.heal()
        assert await end_of(client, first) == "reversed"
    await check_kept(shop, {first: "reversed", second: "approved"}, 0, tmp_path / "copy")


@pytest.mark.parametrize(
    ("point", "ends"),
    [
        ("after intent", ("approved", "not_charged")),
        ("before ask", ("approved", "not_charged")),
        ("after ask", ("reversed", "approved")),
        ("before outcome", ("reversed", "approved")),
        ("after outcome", ("reversed", "approved")),
    ],
)
async def test_of_two_cards_one_is_kept_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str, ends: tuple[str, str]
) -> None:
    first, second = await begin(shop)
    await die_at_the_next_try(shop, point, second, (first,), "card")
    await shop.twin.heal()
    await shop.start()
    async with shop.till() as client:
        assert await end_of(client, second) == ends[1]
        assert await end_of(client, first) == ends[0]
        assert (await try_again(client, second, (first,), "card", ANSWER_MS)).state == ends[1]
    await check_kept(shop, dict(zip((first, second), ends, strict=True)), AMOUNT, tmp_path / "copy")


@pytest.mark.parametrize("point", ["before sale", "after sale"])
async def test_tries_that_never_came_are_refused_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    await shop.start()
    async with shop.till() as client:
        first, second, third = (client.new_key() for _ in range(3))
    await shop.kill()
    await die_at_the_next_try(shop, point, third, (second, first), "cash")
    await shop.start()
    async with shop.till() as client:
        assert (await try_again(client, third, (second, first), "cash", ANSWER_MS)).state == "approved"
        for late, of in ((first, ()), (second, (first,))):
            with pytest.raises(Rejected, match="payment_cancelled"):
                await try_again(client, late, of, "card", ANSWER_MS)
    await check_kept(shop, {third: "approved"}, 0, tmp_path / "copy")

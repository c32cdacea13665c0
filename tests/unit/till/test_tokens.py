"""Owns the promises of provider tokens: kept once, told to the provider alone, for their purposes, until forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import DAY_MS
from appliance.model.provider_token import is_token_name
from appliance.wire.answers import PaymentAnswer
from tests.fakes.provider import Switch
from tests.unit.payment.shop import Shop, open_shop, rebuilt_equal
from tests.unit.till.kept import CUSTOMER, SECRET, card_of, keep, pay, token, told_provider


def on_disk(folder: Path, secret: str = SECRET) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]


async def test_the_provider_hears_the_token_and_everything_else_its_name(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        name = await keep(shop)
        assert is_token_name(name)
        assert (await pay(shop, name)).state == "approved"
        assert told_provider(shop) == [SECRET]
        assert await shop.rows("SELECT source FROM operations") == [(name,)]
        assert on_disk(tmp_path) == []
        await rebuilt_equal(shop)
    assert on_disk(tmp_path) == []


async def test_keeping_again_under_the_same_key_gives_the_same_name(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        one, two = await asyncio.gather(*(keep(shop, key=key) for _ in range(2)))
        assert one == two == await keep(shop, key=key)
        assert await shop.safe.names() == {one}
        with pytest.raises(Rejected, match="key_reused"):
            await keep(shop, "pm_1AnotherToken", key=key)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"token": None}, "token_missing"),
        ({"purposes": []}, "token_purpose_missing"),
        ({"name": "tok_" + 26 * "a"}, "token_missing"),
        ({"token": "tok_" + 26 * "a"}, "token_missing"),
        ({"token": "4242424242424242"}, "card_number_refused"),
        ({"customer": "4242424242424242"}, "card_number_refused"),
        ({"expires_ms": 1}, "token_expired"),
    ],
)
async def test_what_cannot_be_kept_is_refused_and_nothing_is(tmp_path: Path, body: dict[str, Any], code: str) -> None:
    async with open_shop(tmp_path) as shop:
        size = shop.ledger.head.size
        asked = {"token": SECRET, "purposes": ["sale"], **body}
        with pytest.raises(Rejected, match=code):
            await token(shop, "keep", **{name: value for name, value in asked.items() if value is not None})
        assert (shop.ledger.head.size, await shop.safe.names()) == (size, frozenset())


async def test_another_purpose_than_it_was_kept_for_is_refused_before_money_moves(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        for_sale, for_hold = await keep(shop), await keep(shop, purposes=["hold"])
        for source, more in ((for_sale, {"capture": "later"}), (for_hold, {})):
            with pytest.raises(Rejected, match="token_purpose_wrong"):
                await pay(shop, source, **more)
        assert shop.provider.asked == []
        assert await shop.rows("SELECT key FROM payments") == []
        assert (await pay(shop, for_hold, capture="later")).state == "authorised"


async def test_a_token_that_never_was_or_is_gone_is_refused_by_name(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        with pytest.raises(Rejected, match="token_unknown"):
            await pay(shop, "tok_" + 26 * "a")
        forgotten, expiring = await keep(shop), await keep(shop, expires_ms=shop.clock.now_ms() + DAY_MS)
        assert (await token(shop, "forget", name=forgotten, reason="asked for")).state == "forgotten"
        with pytest.raises(Rejected, match="token_forgotten"):
            await pay(shop, forgotten)
        with pytest.raises(Rejected, match="token_forgotten"):
            await token(shop, "forget", name=forgotten)
        assert (await pay(shop, expiring)).state == "approved"
        shop.clock.pass_time(DAY_MS)
        with pytest.raises(Rejected, match="token_expired"):
            await pay(shop, expiring)
        assert (await token(shop, "show", name=expiring)).state == "expired"
        assert await shop.safe.names() == {expiring}


async def test_a_sale_that_was_recorded_is_told_again_after_its_token_is_forgotten(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        name, key = await keep(shop), shop.new_key()
        assert (await pay(shop, name, key=key)).state == "approved"
        await token(shop, "forget", name=name)
        assert (await pay(shop, name, key=key)).state == "approved"
        assert told_provider(shop) == [SECRET]


async def test_of_a_sale_and_a_forgetting_at_once_one_comes_first(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        name = await keep(shop)

        async def sell() -> str:
            try:
                return (await pay(shop, name)).state
            except Rejected as refusal:
                return refusal.code

        ends = await asyncio.gather(sell(), token(shop, "forget", name=name), sell())
        # Between intent and asking the token may go: then the provider was not asked, and the answer is a typed no.
        assert {ends[0], ends[2]} <= {"approved", "declined", "token_forgotten"}
        assert len(told_provider(shop)) == [ends[0], ends[2]].count("approved")


async def test_a_token_goes_with_its_customer(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        bound, free = await keep(shop, customer=CUSTOMER), await keep(shop)
        await shop.ledger.erase(f"customer:{CUSTOMER}", actor="operator")
        with pytest.raises(Rejected, match="token_erased"):
            await pay(shop, bound)
        assert await shop.safe.names() == {bound, free}
        await shop.vault.sweep()
        assert await shop.safe.names() == {free}
        assert (await pay(shop, free)).state == "approved"
        # The person may come again, with a new token under a new key.
        assert (await pay(shop, await keep(shop, customer=CUSTOMER))).state == "approved"
        await rebuilt_equal(shop)


async def test_a_token_kept_while_its_customer_is_erased_does_not_outlive_the_erasure(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await keep(shop, customer=CUSTOMER)
        kept, erased = await asyncio.gather(
            token(shop, "keep", token=SECRET, purposes=["sale"], customer=CUSTOMER),
            shop.ledger.erase(f"customer:{CUSTOMER}", actor="operator"),
            return_exceptions=True,
        )
        assert not isinstance(erased, BaseException)
        await shop.vault.sweep()
        assert await shop.safe.names() == frozenset()
        if isinstance(kept, BaseException):
            assert isinstance(kept, Rejected | Unavailable)
            assert "erased" in str(kept)


async def test_with_the_hsm_away_a_token_sale_is_refused_and_every_other_sale_goes_on(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        name = await keep(shop)
        assert (await pay(shop, name)).state == "approved"
        shop.hsm.is_there = False
        for act in (pay(shop, name), keep(shop)):
            with pytest.raises(Unavailable, match="vault_closed"):
                await act
        assert (await pay(shop, "pm_card_visa")).state == "approved"
        assert len(shop.provider.asked) == 2
        shop.hsm.is_there = True
        assert (await pay(shop, name)).state == "approved"
        assert await shop.safe.names() == {name}


async def test_the_hsm_is_asked_once_for_many_sales(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        name = await keep(shop)
        before = shop.hsm.asked
        for _ in range(5):
            await pay(shop, name)
        assert shop.hsm.asked == before


async def test_a_lost_answer_is_found_without_the_token(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        name, key = await keep(shop), shop.new_key()
        shop.provider.strike(Switch.FAIL_AFTER)
        assert (await pay(shop, name, key=key)).state == "being_checked"
        await token(shop, "forget", name=name)
        shop.hsm.is_there = False
        await shop.settle()
        assert (await status(shop, key)).state == "approved"


async def test_a_token_in_the_clear_is_no_source_of_a_sale(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        with pytest.raises(Rejected, match="source_in_clear"):
            await shop.pipeline.pay(shop.request("payment", card_of(SECRET)))
    assert on_disk(tmp_path) == []


async def status(shop: Shop, of: str) -> PaymentAnswer:
    return await shop.pipeline.status(shop.request("status", {"of": of}))

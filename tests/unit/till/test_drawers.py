"""What a cashier does to a drawer becomes an entry once, and what cannot have been is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.model.errors import Rejected, Unavailable
from tests.unit.payment.shop import open_shop
from tests.unit.till.acts import act, cash, log_size, pay


async def test_each_act_is_an_entry_of_its_own_kind_and_says_what_the_drawer_holds(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await pay(shop, cash(1_250, 2_000))
        answers = [
            await act(shop, "float", 10_000),
            await act(shop, "paid_in", 500, reason="change from the bank"),
            await act(shop, "paid_out", 750, reason="window cleaner"),
            await act(shop, "no_sale"),
            await act(shop, "count", 10_990),
        ]
        assert [answer.held_minor for answer in answers] == [11_250, 11_750, 11_000, 11_000, 10_990]
        assert [answer.difference_minor for answer in answers] == [None, None, None, None, -10]
        kinds = [
            (kind,) for kind in ("drawer_float", "drawer_paid_in", "drawer_paid_out", "drawer_no_sale", "drawer_count")
        ]
        assert await shop.rows("SELECT kind FROM entries WHERE kind LIKE 'drawer%' ORDER BY seq") == kinds


async def test_same_request_again_gets_the_same_answer_and_is_counted_once(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        first = await act(shop, "float", 10_000, key=key)
        await act(shop, "paid_out", 4_000)
        again = await act(shop, "float", 10_000, key=key)
        assert (again.seq, again.held_minor) == (first.seq, 10_000)
        with pytest.raises(Rejected, match="key_reused"):
            await act(shop, "float", 10_001, key=key)


async def test_key_of_a_payment_is_no_key_of_a_drawer(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        await pay(shop, cash(100), key=key)
        with pytest.raises(Rejected, match="key_reused"):
            await act(shop, "float", 100, key=key)


async def test_key_of_an_act_is_no_key_of_a_payment_and_names_none(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        await act(shop, "float", 100, key=key)
        with pytest.raises(Rejected, match="key_reused"):
            await pay(shop, cash(100), key=key)
        before = await log_size(shop)
        verbs = {"refund": shop.pipeline.refund, "reversal": shop.pipeline.reverse, "abort": shop.pipeline.abort}
        for verb, ask in verbs.items():
            with pytest.raises(Rejected, match="payment_unknown"):
                await ask(shop.request(verb, {"of": key}))
        with pytest.raises(Rejected, match="payment_unknown"):
            await shop.pipeline.status(shop.request("status", {"of": key}))
        assert await log_size(shop) == before


async def test_more_than_the_drawer_holds_cannot_be_paid_out_and_the_refusal_says_what_is_there(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await act(shop, "float", 1_000)
        with pytest.raises(Rejected, match=r"drawer_short.*holds 1000 minor units.*saw 1001"):
            await act(shop, "paid_out", 1_001)
        answers = await asyncio.gather(*(act(shop, "paid_out", 600) for _ in range(4)), return_exceptions=True)
        assert sum(not isinstance(answer, Exception) for answer in answers) == 1, "of four at once one is paid"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"act": "paid_out", "amount_minor": 5}, "reason_missing"),
        ({"act": "paid_in", "amount_minor": 5, "reason": " "}, "reason_missing"),
        ({"act": "float"}, "drawer_amount_wrong"),
        ({"act": "no_sale", "amount_minor": 1}, "drawer_amount_wrong"),
        ({"act": "count", "drawer": "till-2"}, "drawer_not_chosen"),
        ({"act": "float", "amount_minor": 1, "drawer": "Till 2"}, "drawer_name_invalid"),
        ({"act": "paid_in", "amount_minor": 5, "reason": "4242 4242 4242 4242"}, "card_number_refused"),
        ({"act": "float", "amount_minor": -1}, "body_invalid"),
        ({"act": "open"}, "body_invalid"),
    ],
)
async def test_what_cannot_have_been_is_refused_and_leaves_nothing(
    tmp_path: Path, body: dict[str, object], code: str
) -> None:
    async with open_shop(tmp_path) as shop:
        size = shop.ledger.head.size
        with pytest.raises(Rejected) as caught:
            await shop.drawers.act(shop.request("drawer", body))
        assert (caught.value.code, shop.ledger.head.size) == (code, size)


async def test_quarantined_box_takes_no_act_and_repeats_old_answers(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        first = await act(shop, "float", 10_000, key=key)
        shop.quarantine.set("the log lost its end")
        assert (await act(shop, "float", 10_000, key=key)).seq == first.seq
        with pytest.raises(Unavailable, match="quarantined"):
            await act(shop, "float", 1)


async def test_cashier_of_an_act_can_be_erased(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        answer = await act(shop, "no_sale", cashier="Augusta Ada King")
        assert {item.name for item in await shop.ledger.disclosures(answer.seq)} == {"cashier", "request"}
        await shop.ledger.erase("cashier:Augusta Ada King", actor="operator")
        assert await shop.ledger.disclosures(answer.seq) == ()


async def test_two_terminals_share_the_drawer_that_their_floats_name(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        await act(shop, "float", 5_000, drawer="bar")
        await act(shop, "float", 100, drawer="bar", terminal="till-2")
        await pay(shop, cash(1_000))
        await pay(shop, cash(2_000), terminal="till-2")
        answer = await act(shop, "count", 8_100, terminal="till-2")
        assert (answer.drawer, answer.difference_minor) == ("bar", 0)


async def test_drawer_is_taken_over_with_what_is_in_it(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        await act(shop, "float", 5_000)
        await pay(shop, cash(1_000))
        taken = await act(shop, "float", drawer="till-1", terminal="till-2")
        assert (taken.drawer, taken.held_minor) == ("till-1", 6_000)
        assert (await act(shop, "paid_out", 6_000, terminal="till-2")).held_minor == 0

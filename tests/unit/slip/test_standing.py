"""What a slip says of a payment that was asked for many times: the log's standing, not that of a few entries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.ledger.archive import Archive
from appliance.ledger.entry import decode
from appliance.model.errors import Rejected
from appliance.model.ids import request_key
from appliance.model.limits import HOUR_MS
from appliance.slip.layout import lay_out
from appliance.slip.plain import plain_text
from appliance.slip.reader import NOT_TOLD, ReadSlip, SlipReader
from appliance.slip.slip import ShopFace, Standing, read_slip
from tests.fakes.provider import Switch
from tests.unit.payment.offline import Till, open_till
from tests.unit.payment.shop import SETTLE_MS, Shop, open_shop
from tests.unit.payment.test_capture import capture, held
from tests.unit.payment.test_refund import refund, sold

REFUSALS = 5
FACE = ShopFace(name="Corner Shop")


@asynccontextmanager
async def shop_with_slips(folder: Path) -> AsyncIterator[tuple[Shop, SlipReader]]:
    async with open_shop(folder) as shop:
        archive = await Archive.open(folder, lambda: shop.ledger.tail)
        face = ShopFace(name="Corner Shop")
        yield shop, SlipReader(ledger=shop.ledger, archive=archive, shop=face, page_url="https://shop.example/check/")
        await archive.close()


@asynccontextmanager
async def offline_till_with_slips(folder: Path) -> AsyncIterator[tuple[Till, SlipReader]]:
    async with open_till(folder) as till:
        archive = await Archive.open(folder, lambda: till.shop.ledger.tail)
        yield (
            till,
            SlipReader(ledger=till.shop.ledger, archive=archive, shop=FACE, page_url="https://shop.example/check/"),
        )
        await archive.close()


async def slip_of(reader: SlipReader, key: str) -> ReadSlip:
    return await reader.read(request_key(key))


async def test_part_refunded_between_many_refused_refunds_is_told(tmp_path: Path) -> None:
    async with shop_with_slips(tmp_path) as (shop, reader):
        of = await sold(shop, card=1000)
        for number in range(2 * REFUSALS):
            if number != REFUSALS:
                shop.provider.strike(Switch.REFUSE)
            await refund(shop, of, amount_minor=100)
        read = await slip_of(reader, of)
        assert read.slip.standing is Standing.PARTLY_REFUNDED
        assert read.slip.proven is Standing.NOT_GIVEN_BACK
        assert (read.proof.link, read.proof.missing) == (None, NOT_TOLD)


async def test_each_refund_before_the_newest_is_told_beside_it(tmp_path: Path) -> None:
    async with shop_with_slips(tmp_path) as (shop, reader):
        of = await sold(shop, card=1000)
        for given_minor, expected in ((100, None), (200, "Before that 1.00"), (700, "Before that 3.00")):
            await refund(shop, of, amount_minor=given_minor)
            read = await slip_of(reader, of)
            rows = [
                " ".join(row.split()) for row in plain_text(lay_out(read.slip, FACE, read.proof), width=42).splitlines()
            ]
            assert f"Card {given_minor / 100:.2f}" in rows
            assert [row for row in rows if row.startswith("Before that")] == ([expected] if expected else [])


async def test_refused_refund_of_a_whole_payment_leaves_it_paid(tmp_path: Path) -> None:
    async with shop_with_slips(tmp_path) as (shop, reader):
        of = await sold(shop, card=1000)
        assert (await slip_of(reader, of)).proof.link is not None
        shop.provider.strike(Switch.REFUSE)
        await refund(shop, of)
        read = await slip_of(reader, of)
        assert read.slip.standing is Standing.PAID
        assert (read.proof.link, read.proof.missing) == (None, NOT_TOLD)


async def test_refused_reversal_ends_the_checking(tmp_path: Path) -> None:
    async with shop_with_slips(tmp_path) as (shop, reader):
        shop.provider.strike(Switch.FAIL_AFTER)
        of = await sold(shop, card=1000)
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        assert (await slip_of(reader, of)).slip.standing is Standing.CHECKING
        shop.provider.strike(Switch.REFUSE)
        shop.clock.pass_time(2 * SETTLE_MS)
        await shop.settle()
        assert (await slip_of(reader, of)).slip.standing is Standing.PAID
        assert (await refund(shop, of, amount_minor=400)).state == "partly_refunded"
        assert (await slip_of(reader, of)).slip.standing is Standing.PARTLY_REFUNDED


async def test_part_refunded_before_a_reversal_that_is_due_is_being_checked(tmp_path: Path) -> None:
    async with shop_with_slips(tmp_path) as (shop, reader):
        of = await sold(shop, card=1000)
        shop.provider.strike(Switch.FAIL_AFTER)
        await refund(shop, of, amount_minor=400)
        await shop.pipeline.reverse(shop.request("reversal", {"of": of}))
        shop.provider.strike(Switch.HANG_BEFORE)
        shop.clock.pass_time(2 * SETTLE_MS)
        await shop.resolver.look()
        read = await slip_of(reader, of)
        assert read.slip.standing is Standing.CHECKING
        assert read.proof.link is None or read.slip.proven is Standing.CHECKING
        shop.provider.let_go()
        await shop.works_done()


async def test_capture_is_told_behind_many_refusals(tmp_path: Path) -> None:
    async with shop_with_slips(tmp_path) as (shop, reader):
        of = await held(shop)
        for _ in range(REFUSALS):
            shop.provider.strike(Switch.REFUSE)
            await capture(shop, of)
        assert (await slip_of(reader, of)).slip.captured_minor is None
        await capture(shop, of, amount_minor=1100)
        for _ in range(REFUSALS):
            shop.provider.strike(Switch.REFUSE)
            await refund(shop, of, amount_minor=100)
        await refund(shop, of, amount_minor=100)
        read = await slip_of(reader, of)
        assert (read.slip.standing, read.slip.captured_minor) == (Standing.PARTLY_REFUNDED, 1100)


async def test_two_entries_alone_do_not_call_a_refused_refund_paid(tmp_path: Path) -> None:
    async with shop_with_slips(tmp_path) as (shop, reader):
        of = await sold(shop, card=1000)
        await refund(shop, of, amount_minor=100)
        shop.provider.strike(Switch.REFUSE)
        await refund(shop, of, amount_minor=100)
        receipt = await shop.ledger.receipts(await _ends(shop), 10_000)
        assert receipt is not None
        slip = read_slip([decode(proven.entry) for proven in receipt.entries])
        assert slip.standing is Standing.NOT_GIVEN_BACK
        text = plain_text(lay_out(slip, reader.shop, (await slip_of(reader, of)).proof), width=42)
        assert "NOT GIVEN BACK" in text
        assert "stands as before" in " ".join(text.split())


async def test_unknown_key_has_no_slip(tmp_path: Path) -> None:
    async with shop_with_slips(tmp_path) as (shop, reader):
        with pytest.raises(Rejected, match="payment_unknown"):
            await slip_of(reader, shop.new_key())


async def _ends(shop: Shop) -> tuple[int, ...]:
    ((first, last),) = await shop.rows("SELECT first, last FROM payments")
    return first, last


async def test_a_card_accepted_offline_is_told_as_that_until_its_bank_said_yes(tmp_path: Path) -> None:
    async with offline_till_with_slips(tmp_path) as (till, reader):
        of = (await till.sell(1_000)).key
        read = await slip_of(reader, of)
        assert (read.slip.standing, read.slip.proven) == (Standing.ACCEPTED_OFFLINE, Standing.ACCEPTED_OFFLINE)
        assert read.proof.link is not None
        await till.shop.forwarder.look()  # the bank cannot be asked
        assert (await slip_of(reader, of)).slip.standing is Standing.ACCEPTED_OFFLINE
        till.pads.strike(Switch.FAIL_BEFORE)
        till.shop.clock.pass_time(HOUR_MS)
        await till.shop.forwarder.look()
        assert (await slip_of(reader, of)).slip.standing is Standing.CHECKING
        till.pads.is_bank_down = False
        await till.shop.settle()
        till.shop.clock.pass_time(HOUR_MS)
        await till.forward()
        read = await slip_of(reader, of)
        assert read.slip.standing is Standing.PAID
        assert read.proof.link is not None


async def test_a_card_whose_bank_said_no_later_is_never_told_as_paid(tmp_path: Path) -> None:
    async with offline_till_with_slips(tmp_path) as (till, reader):
        of = (await till.sell(1_000)).key
        till.pads.says_no.add(till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        read = await slip_of(reader, of)
        assert read.slip.standing is Standing.DECLINED_AFTER_HANDOVER
        assert read.proof.link is not None
        text = plain_text(lay_out(read.slip, FACE, read.proof), width=42)
        assert "DECLINED BY THE BANK" in text
        assert "Card, asked for" in text

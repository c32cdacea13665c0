"""Owns the promises of vouchers: spent once whoever comes first, given back where they came from, told by nobody."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from appliance.crypto import cbor
from appliance.device.admission import BoxAdmission
from appliance.device.upkeep import Upkeep
from appliance.ledger.entry import decode
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import request_key
from appliance.model.voucher import SECRET_SIZE, code_of, voucher_of
from appliance.payment.guards import unused
from appliance.payment.voucher_rows import VouchersCover
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.wire.answers import PaymentAnswer, VoucherAnswer
from appliance.wire.entries import SaleEntry
from appliance.wire.till_entries import TenderFacts
from tests.fakes.provider import Switch
from tests.unit.payment.shop import Shop, open_shop, rebuilt_equal
from tests.unit.till.acts import cash, pay, report
from tests.until import until


async def voucher(shop: Shop, act: str, *, key: str | None = None, **more: Any) -> VoucherAnswer:
    return await shop.vouchers.act(shop.request("voucher", {"act": act, **more}, key))


async def issue(shop: Shop, amount: int, **more: Any) -> str:
    """The code of a new voucher, given for nothing."""
    answer = await voucher(shop, "issue", amount_minor=amount, **({"reason": "a reason"} | more))
    assert answer.code is not None
    return answer.code


async def left(shop: Shop, code: str) -> tuple[str, int]:
    answer = await voucher(shop, "show", code=code)
    return answer.state, answer.left_minor


def sale(code: str, amount: int, **others: int) -> dict[str, Any]:
    tenders: list[dict[str, Any]] = [{"kind": kind, "amount_minor": minor} for kind, minor in others.items()]
    tenders.append({"kind": "voucher", "amount_minor": amount, "source": code})
    return {"currency": "EUR", "amount_minor": amount + sum(others.values()), "tenders": tenders}


async def status(shop: Shop, of: str) -> PaymentAnswer:
    return await shop.pipeline.status(shop.request("status", {"of": of}))


async def give_back(shop: Shop, verb: str, of: str, **part: Any) -> None:
    act = shop.pipeline.refund if verb == "refund" else shop.pipeline.reverse
    await act(shop.request(verb, {"of": of, **part}))
    await shop.works_done()


def written(folder: Path) -> bytes:
    """Every file of the log, one behind the other."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def owed(shop: Shop) -> int:
    return (await shop.days.standing()).day.period.owed


async def test_it_is_spent_in_parts_until_nothing_is_left_and_then_refused(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code = await issue(shop, 5_000)
        assert (await pay(shop, sale(code, 2_000))).state == "approved"
        with pytest.raises(Rejected, match=r"voucher_short: expected at most 30\.00 EUR"):
            await pay(shop, sale(code, 3_001))
        assert (await pay(shop, sale(code.lower(), 3_000, cash=500))).state == "approved"
        with pytest.raises(Rejected, match="voucher_spent"):
            await pay(shop, sale(code, 1))
        assert await left(shop, code) == ("spent", 0)
        assert await owed(shop) == 0
        await rebuilt_equal(shop)


async def test_of_two_terminals_that_spend_it_at_once_one_wins(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        code = await issue(shop, 1_000)

        async def spend(terminal: str, tenders: dict[str, int]) -> str:
            try:
                return (await pay(shop, sale(code, 600, **tenders), terminal=terminal)).state
            except Rejected as refusal:
                return refusal.code

        async with asyncio.TaskGroup() as group:
            tills = [group.create_task(spend(f"till-{1 + at % 2}", {"card": 100} if at % 3 else {})) for at in range(6)]
        await shop.works_done()
        ends = sorted(task.result() for task in tills)
        assert len([end for end in ends if end in ("approved", "being_checked")]) == 1
        assert ends.count("voucher_short") == 5
        assert await left(shop, code) == ("open", 400)


async def test_twice_in_one_sale_is_counted_together(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code = await issue(shop, 1_000)
        body = sale(code, 600)
        body["tenders"] *= 2
        with pytest.raises(Rejected, match="voucher_short"):
            await pay(shop, body | {"amount_minor": 1_200})


async def test_a_retry_of_a_sale_gets_its_result_and_takes_nothing_more(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code, key = await issue(shop, 1_000), shop.new_key()
        first = await pay(shop, sale(code, 1_000), key=key)
        assert (await pay(shop, sale(code, 1_000), key=key)).seq == first.seq
        assert await left(shop, code) == ("spent", 0)


@pytest.mark.parametrize(
    ("switch", "after"),
    [(Switch.REFUSE, ("open", 1_000)), (Switch.NOT_SENT, ("open", 1_000)), (Switch.NONE, ("open", 400))],
)
async def test_beside_a_card_it_comes_back_when_the_card_does_not_pay(
    tmp_path: Path, switch: Switch, after: tuple[str, int]
) -> None:
    async with open_shop(tmp_path) as shop:
        code = await issue(shop, 1_000)
        shop.provider.strike(switch)
        await pay(shop, sale(code, 600, card=100))
        await shop.works_done()
        assert await left(shop, code) == after
        await rebuilt_equal(shop)


async def test_it_is_held_while_the_card_beside_it_is_being_checked(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code = await issue(shop, 1_000)
        shop.provider.strike(Switch.FAIL_BEFORE)
        key = shop.new_key()
        await pay(shop, sale(code, 600, card=100), key=key)
        await shop.works_done()
        assert (await status(shop, key)).state == "being_checked"
        assert await left(shop, code) == ("open", 400)
        with pytest.raises(Rejected, match="voucher_spent"):
            await voucher(shop, "void", code=code)
        await shop.settle()
        assert (await status(shop, key)).state == "not_charged"
        assert await left(shop, code) == ("open", 1_000)


async def test_refund_and_reversal_give_it_back_before_cash(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code, other = await issue(shop, 1_000), await issue(shop, 200)
        key = shop.new_key()
        body = sale(code, 1_000, cash=300)
        body["tenders"].append({"kind": "voucher", "amount_minor": 200, "source": other})
        await pay(shop, body | {"amount_minor": 1_500}, key=key)
        await give_back(shop, "refund", key, amount_minor=500)
        assert (await left(shop, other), await left(shop, code)) == (("open", 200), ("open", 300))
        assert await owed(shop) == 500
        await give_back(shop, "reversal", key)
        assert (await left(shop, code), await owed(shop)) == (("open", 1_000), 1_200)
        assert await shop.rows("SELECT cash_back, voucher_back FROM payments") == [(300, 1_200)]
        await rebuilt_equal(shop)


async def test_it_is_sold_with_a_payment_that_then_keeps_its_money(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        await pay(shop, cash(5_000), key=key)
        code = await issue(shop, 3_000, of=key, reason="")
        with pytest.raises(Rejected, match="voucher_not_paid: expected at most 2000"):
            await issue(shop, 2_001, of=key)
        for verb in ("refund", "reversal"):
            with pytest.raises(Rejected, match="vouchers_sold"):
                await give_back(shop, verb, key)
        assert (await voucher(shop, "void", code=code)).state == "voided"
        with pytest.raises(Rejected, match="voucher_void"):
            await pay(shop, sale(code, 1))
        with pytest.raises(Rejected, match="voucher_void"):
            await voucher(shop, "void", code=code)
        await give_back(shop, "refund", key)
        assert (await status(shop, key)).state == "refunded"
        with pytest.raises(Rejected, match="voucher_not_paid"):
            await issue(shop, 1, of=key)
        await rebuilt_equal(shop)


async def test_of_a_voucher_sold_and_a_refund_at_once_one_wins(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        await pay(shop, cash(5_000), key=key)

        async def end(work: Any) -> str:
            try:
                await work
            except Rejected as refusal:
                return refusal.code
            return "done"

        async with asyncio.TaskGroup() as group:
            sold = group.create_task(end(issue(shop, 5_000, of=key)))
            refunded = group.create_task(end(give_back(shop, "refund", key)))
        assert (sold.result(), refunded.result()) in (("done", "vouchers_sold"), ("voucher_not_paid", "done"))


async def test_it_ends_when_it_says(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        ends_ms = shop.clock.now_ms() + 60_000
        code = await issue(shop, 1_000, expires_ms=ends_ms)
        with pytest.raises(Rejected, match="voucher_expired"):
            await issue(shop, 1_000, expires_ms=shop.clock.now_ms())
        shop.clock.pass_time(60_000)
        with pytest.raises(Rejected, match="voucher_expired"):
            await pay(shop, sale(code, 1))
        assert (await left(shop, code), await owed(shop)) == (("expired", 1_000), 1_000)


async def test_a_voucher_of_another_currency_is_worth_nothing_here(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code = await issue(shop, 1_000)
        cover = VouchersCover(
            fresh=unused(request_key(shop.new_key())), uses=((voucher_of(code), 1),), currency="CHF", now_ms=0
        )
        with pytest.raises(Rejected, match=r"voucher_currency: the voucher is worth 10\.00 EUR"):
            await shop.ledger.read(cover.check)


async def test_a_lost_answer_is_told_again_with_the_same_code(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        first = await voucher(shop, "issue", key=key, amount_minor=1_000, reason="sorry")
        again = await voucher(shop, "issue", key=key, amount_minor=1_000, reason="sorry")
        assert (first.code, first.seq) == (again.code, again.seq)
        assert first.receipt is not None
        assert first.code is not None
        assert first.code.encode() not in first.receipt
        with pytest.raises(Rejected, match="key_reused"):
            await voucher(shop, "issue", key=key, amount_minor=1_001, reason="sorry")
        assert await shop.rows("SELECT count(*) FROM vouchers") == [(1,)]


async def test_its_code_stands_in_no_entry_and_in_no_file_of_the_log(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code = await issue(shop, 1_000)
        await pay(shop, sale(code, 400, cash=100))
        await pay(shop, sale(code.replace("-", ""), 400))
        entries = [decode(encoded) for (encoded,) in await shop.rows("SELECT entry FROM entries")]
        sold = [msgspec.convert(cbor.decode_ours(each.body), SaleEntry) for each in entries if each.kind == "sale"]
        assert {body.sale.tenders[-1].source for body in sold} == {voucher_of(code).hex()}
        files = written(tmp_path)
        assert bytes(voucher_of(code)) in files, "this would find it"
        assert code.encode() not in files
        assert code.replace("-", "").encode() not in files


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"act": "issue", "amount_minor": 0, "reason": "x"}, "amount_not_positive"),
        ({"act": "issue", "amount_minor": 1}, "reason_missing"),
        ({"act": "issue", "amount_minor": 1, "reason": "x", "code": "0000"}, "voucher_code_invalid"),
        ({"act": "issue", "amount_minor": 1, "of": "01a0c450-6c00-7000-8000-000000000001"}, "payment_unknown"),
        ({"act": "issue", "amount_minor": 1, "reason": "4242 4242 4242 4242"}, "card_number_refused"),
        ({"act": "show"}, "voucher_code_invalid"),
        ({"act": "void", "code": "0000"}, "voucher_code_invalid"),
        ({"act": "show", "code": "000G-40R4-0M30-E209-185G-R38E-0000"}, "voucher_code_invalid"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_writes_nothing(
    tmp_path: Path, body: dict[str, Any], code: str
) -> None:
    async with open_shop(tmp_path) as shop:
        size = shop.ledger.head.size
        with pytest.raises(Rejected) as refused:
            await shop.vouchers.act(shop.request("voucher", body))
        assert (refused.value.code, shop.ledger.head.size) == (code, size)


async def test_a_stranger_s_code_opens_nothing(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        with pytest.raises(Rejected, match="voucher_unknown"):
            await pay(shop, sale(code_of(bytes(SECRET_SIZE)), 1))


async def test_a_box_that_may_not_sell_makes_no_money(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_shop(tmp_path) as shop:
        code = await issue(shop, 1_000)
        monkeypatch.setattr(BoxAdmission, "admit", refuse_to_sell)
        with pytest.raises(Unavailable, match="signing_down"):
            await issue(shop, 1)
        assert (await voucher(shop, "void", code=code)).state == "voided"
        shop.quarantine.set("a test said so")
        with pytest.raises(Unavailable, match="quarantined"):
            await voucher(shop, "void", code=code)


def refuse_to_sell(_admission: BoxAdmission) -> None:
    raise Unavailable("signing_down", "a test said so")


async def test_reports_say_what_was_issued_spent_and_is_owed(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code = await issue(shop, 1_000)
        await pay(shop, sale(code, 400))
        period = (await report(shop, "x")).period
        assert (period.totals.vouchers, period.owed) == (1_000, 0)
        assert period.tenders == (TenderFacts(kind="voucher", taken=400),)
        assert await owed(shop) == 600
        await shop.days.close()
        await pay(shop, sale(code, 100))
        day = (await shop.days.standing()).day.period
        assert (day.totals.vouchers, day.owed) == (0, 500)


async def test_no_voucher_is_sold_with_a_try_that_a_later_one_may_still_outlive(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        first, second = shop.new_key(), shop.new_key()
        card = {"currency": "EUR", "amount_minor": 700, "tenders": [{"kind": "card", "amount_minor": 700}]}
        shop.provider.strike(Switch.FAIL_AFTER)
        await pay(shop, card, key=first)
        await shop.works_done()
        shop.provider.strike(Switch.HANG_BEFORE)
        await pay(shop, card | {"retry_of": [first]}, key=second)
        await shop.resolver.look()
        assert ((await status(shop, first)).state, (await status(shop, second)).state) == ("approved", "being_checked")
        with pytest.raises(Rejected, match="retry_exists"):
            await issue(shop, 700, of=first)
        await shop.pipeline.abort(shop.request("abort", {"of": second}))
        await shop.works_done()
        await shop.settle()
        assert await left(shop, await issue(shop, 700, of=first)) == ("open", 700)


async def test_a_stored_sale_takes_no_voucher(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code = await issue(shop, 1_000)
        items = [{"key": shop.new_key(), "payment": sale(code, 400)}]
        answer = await shop.batch.take(shop.request("batch", {"items": items}))
        assert [result.code for result in answer.results] == ["batch_takes_cash"]
        assert await left(shop, code) == ("open", 1_000)


async def test_a_sale_tried_again_with_cash_gets_the_voucher_of_the_first_try_back(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code, key = await issue(shop, 1_000), shop.new_key()
        shop.provider.strike(Switch.FAIL_AFTER)
        await pay(shop, sale(code, 600, card=100), key=key)
        await shop.works_done()
        with pytest.raises(Rejected, match="voucher_short"):
            await pay(shop, sale(code, 600, cash=100) | {"retry_of": [key]})
        assert (await pay(shop, cash(700) | {"retry_of": [key]})).state == "approved"
        await shop.settle()
        assert ((await status(shop, key)).state, await left(shop, code)) == ("reversed", ("open", 1_000))
        assert shop.provider.charged_minor() == 0
        await rebuilt_equal(shop)


async def test_the_owner_sees_at_any_moment_what_is_owed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It blocks the loop for a moment, which a test may not.
    monkeypatch.setattr(os, "statvfs", lambda _folder: SimpleNamespace(f_bavail=1, f_frsize=1))
    async with open_shop(tmp_path) as shop:
        metrics = Metrics()
        upkeep = Upkeep(
            ledger=shop.ledger,
            clock=shop.clock,
            metrics=metrics,
            log=Log(sink=lambda _line: None, clock=shop.clock),
            folder=tmp_path,
            probes={},
            terminal_count=lambda: 1,
        )
        await pay(shop, sale(await issue(shop, 1_000), 400))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(upkeep.run())
            await until("6.00 EUR owed", lambda: b"tillstone_vouchers_owed_minor 600.0" in metrics.render())
            running.cancel()

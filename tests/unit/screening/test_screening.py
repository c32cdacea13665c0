"""Owns the promises of screening in a whole box: every verdict in its entry, no money where a rule refuses."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import pytest

from appliance.config.screening import Screening
from appliance.ledger.projection import tables_digest
from appliance.ledger.rebuild import recorded_entry
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import request_key
from appliance.model.limits import DAY_MS, HOUR_MS, MINUTE_MS
from appliance.payment.entry_body import body_of
from appliance.payment.screening.changes import Thresholds
from appliance.payment.screening.judge import REFUSED_RECORDED_MAX
from appliance.payment.screening.records import ScreeningProjection, find_screened
from appliance.wire import entries
from tests.fakes.clock import FakeClock
from tests.unit.payment.shop import MODEL, Shop, open_shop

STRICT = Screening(
    velocity_mode="refuse",
    velocity_sales_max=3,
    sale_ceiling_mode="refuse",
    sale_ceiling_minor=5_000,
    hour_ceiling_mode="off",
    refund_velocity_mode="refuse",
    refund_velocity_max=1,
)


async def sell(shop: Shop, amount: int = 100, key: str | None = None, kind: str = "cash") -> str:
    key = key or shop.new_key()
    body = {"currency": "EUR", "amount_minor": amount, "tenders": [{"kind": kind, "amount_minor": amount}]}
    await shop.pipeline.pay(shop.request("payment", body, key))
    await shop.works_done()
    return key


async def give_back(shop: Shop, of: str, key: str | None = None) -> str:
    key = key or shop.new_key()
    await shop.pipeline.refund(shop.request("refund", {"of": of}, key))
    await shop.works_done()
    return key


async def verdicts(shop: Shop, key: str) -> list[tuple[str, list[str]]]:
    found = await shop.ledger.read(lambda connection: find_screened(connection, request_key(key)))
    return [(each.facts.verdict, [reason.rule for reason in each.facts.reasons]) for each in found]


async def size(shop: Shop) -> int:
    return shop.ledger.head.size


@pytest.mark.parametrize("kind", ["cash", "card"])
async def test_a_pass_stands_in_the_entry_with_score_and_model(tmp_path: Path, kind: str) -> None:
    async with open_shop(tmp_path) as shop:
        key = await sell(shop, kind=kind)
        refund = await give_back(shop, key)
        for each in (key, refund):
            (screened,) = await shop.ledger.read(partial(find_screened, key=request_key(each)))
            assert screened.facts.verdict == "passed"
            assert screened.facts.model == MODEL.sha256
            assert screened.facts.score is not None
        assert await shop.rows("SELECT * FROM screenings") == []


@pytest.mark.parametrize("kind", ["cash", "card"])
async def test_a_refused_sale_moves_nothing_tells_no_limit_and_is_kept(tmp_path: Path, kind: str) -> None:
    async with open_shop(tmp_path, screening=STRICT) as shop:
        key = shop.new_key()
        with pytest.raises(Rejected) as told:
            await sell(shop, 5_001, key, kind)
        assert told.value.code == "sale_above_ceiling"
        assert "5" not in told.value.detail
        assert not await shop.rows("SELECT * FROM payments")
        assert not await shop.rows("SELECT * FROM operations")
        assert await verdicts(shop, key) == [("refused", ["sale_ceiling"])]
        await sell(shop, 4_999, key, kind)  # the key stays unused: corrected, the same sale goes through
        assert await verdicts(shop, key) == [("refused", ["sale_ceiling"]), ("passed", [])]


async def test_velocity_refuses_the_next_and_a_retry_counts_once_and_gets_its_result(tmp_path: Path) -> None:
    async with open_shop(tmp_path, screening=STRICT) as shop:
        keys = [await sell(shop) for _ in range(2)]
        for _ in range(5):
            await sell(shop, key=keys[0])
        keys.append(await sell(shop))
        with pytest.raises(Rejected, match="screening_refused: this needs the owner"):
            await sell(shop)
        before = await size(shop)
        for key in keys:
            await sell(shop, key=key)  # a retry of what stands is no new sale
        assert await size(shop) == before
        shop.clock.pass_time(12 * MINUTE_MS)
        await sell(shop)


async def test_sales_beside_each_other_see_each_other(tmp_path: Path) -> None:
    async with open_shop(tmp_path, screening=STRICT) as shop:
        ended = await asyncio.gather(*(sell(shop) for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(each, str) for each in ended) == 3
        assert len(await shop.rows("SELECT * FROM payments")) == 3


async def test_what_was_not_written_does_not_count(tmp_path: Path) -> None:
    async with open_shop(tmp_path, screening=STRICT) as shop:
        key = await sell(shop)
        for _ in range(5):
            with pytest.raises(Rejected, match="key_reused"):
                await sell(shop, 101, key)
        await sell(shop)
        await sell(shop)


async def test_refund_velocity_refuses_before_money_moves(tmp_path: Path) -> None:
    async with open_shop(tmp_path, screening=STRICT) as shop:
        sold = [await sell(shop, kind=kind) for kind in ("cash", "card")]
        given = await give_back(shop, sold[0])
        key = shop.new_key()
        with pytest.raises(Rejected, match="screening_refused"):
            await give_back(shop, sold[1], key)
        assert await shop.rows("SELECT count(*) FROM operations") == [(1,)]
        assert await verdicts(shop, key) == [("refused", ["refund_velocity"])]
        await give_back(shop, sold[0], given)  # the retry of the first gets its result
        await shop.pipeline.reverse(shop.request("reversal", {"of": sold[1]}))  # a till must always be able to undo
        await shop.works_done()
        assert await shop.rows("SELECT count(*) FROM operations") == [(2,)]


async def test_a_watching_rule_lets_through_and_says_so(tmp_path: Path) -> None:
    async with open_shop(tmp_path, screening=Screening(sale_ceiling_minor=100)) as shop:
        key = await sell(shop, 101)
        assert await verdicts(shop, key) == [("watched", ["sale_ceiling"])]
        assert await shop.rows("SELECT verdict, rules FROM screenings") == [("watched", "sale_ceiling")]


async def test_hours_are_those_of_the_shops_zone(tmp_path: Path) -> None:
    closed = Screening(hours_mode="refuse", hours_open="08:00", hours_close="20:00")
    async with open_shop(tmp_path, screening=closed) as shop:
        shop.clock.pass_time(DAY_MS - shop.clock.now_ms() % DAY_MS + 5 * HOUR_MS + 30 * MINUTE_MS)
        with pytest.raises(Rejected, match="terminal_out_of_hours"):
            await sell(shop)  # 07:30 in Berlin's summer
        shop.clock.pass_time(HOUR_MS)
        await sell(shop)


async def test_a_stored_sale_is_never_refused_only_watched(tmp_path: Path) -> None:
    async with open_shop(tmp_path, screening=STRICT) as shop:
        keys = [shop.new_key() for _ in range(6)]
        payment = {"currency": "EUR", "amount_minor": 100, "tenders": [{"kind": "cash", "amount_minor": 100}]}
        items = [{"key": key, "payment": {**payment, "sold_at_ms": shop.clock.now_ms() - 1000}} for key in keys]
        answer = await shop.batch.take(shop.request("batch", {"items": items}))
        assert [each.state for each in answer.results] == ["approved"] * 6
        assert await verdicts(shop, keys[0]) == [("passed", [])]
        assert await verdicts(shop, keys[5]) == [("watched", ["velocity"])]
        with pytest.raises(Rejected, match="screening_refused"):
            await sell(shop)
        again = await shop.batch.take(shop.request("batch", {"items": items}))
        assert [each.state for each in again.results] == ["approved"] * 6


async def test_a_batch_that_is_sent_again_counts_once(tmp_path: Path) -> None:
    seven = msgspec.structs.replace(STRICT, velocity_sales_max=7)
    async with open_shop(tmp_path, screening=seven) as shop:
        payment = {"currency": "EUR", "amount_minor": 100, "tenders": [{"kind": "cash", "amount_minor": 100}]}
        items = [{"key": shop.new_key(), "payment": payment} for _ in range(3)]
        for _ in range(3):
            await shop.batch.take(shop.request("batch", {"items": items}))
        for _ in range(4):
            await sell(shop)
        with pytest.raises(Rejected, match="screening_refused"):
            await sell(shop)


async def test_a_cards_refund_counts_once_after_a_restart(tmp_path: Path) -> None:
    clock, two = FakeClock(), msgspec.structs.replace(STRICT, refund_velocity_max=2)
    async with open_shop(tmp_path, clock=clock, screening=two) as shop:
        sold = [await sell(shop, kind="card") for _ in range(3)]
        await give_back(shop, sold[0])
    async with open_shop(tmp_path, clock=clock, screening=two) as shop:
        await give_back(shop, sold[1])
        with pytest.raises(Rejected, match="screening_refused"):
            await give_back(shop, sold[2])


async def test_counts_and_thresholds_survive_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    async with open_shop(tmp_path, clock=clock, screening=STRICT) as shop:
        sold = [await sell(shop, kind=kind) for kind in ("cash", "card", "cash")]
        await give_back(shop, sold[1])
    async with open_shop(tmp_path, clock=clock, screening=STRICT) as shop:
        with pytest.raises(Rejected, match="screening_refused"):
            await sell(shop)
        with pytest.raises(Rejected, match="screening_refused"):
            await give_back(shop, sold[0])
        await _thresholds(shop).change({"velocity_mode": "watch", "refund_velocity_max": 9})
        await sell(shop)
        await give_back(shop, sold[0])
    async with open_shop(tmp_path, clock=clock, screening=STRICT) as shop:
        assert shop.screener.thresholds == msgspec.structs.replace(STRICT, velocity_mode="watch", refund_velocity_max=9)
        await sell(shop)


async def test_a_change_is_an_entry_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        thresholds, before = _thresholds(shop), await size(shop)
        with pytest.raises(Rejected, match="threshold_invalid"):
            await thresholds.change({"velocity_sales_max": 0, "velocity_mode": "refuse"})
        assert await size(shop) == before
        assert shop.screener.thresholds == Screening()
        seq = await thresholds.change({"velocity_sales_max": 7, "hours_open": "07:00"})
        row = await shop.rows(f"SELECT entry FROM entries WHERE seq = {seq}")
        entry = recorded_entry(row[0][0])
        assert (entry.kind, entry.actor) == ("screening_changed", "operator")
        assert body_of(entry, entries.ScreeningChangedEntry).changed == {"hours_open": "07:00", "velocity_sales_max": 7}
        shown = {each["name"]: each for each in await thresholds.show()}
        assert shown["velocity_sales_max"] == {"name": "velocity_sales_max", "value": 7, "is_changed": True}
        assert shown["velocity_mode"]["is_changed"] is False


async def test_tables_are_the_same_when_rebuilt(tmp_path: Path) -> None:
    async with open_shop(tmp_path, screening=STRICT) as shop:
        sold = [await sell(shop, kind=kind) for kind in ("cash", "card", "cash")]
        await give_back(shop, sold[0])
        for refused in (sell(shop), give_back(shop, sold[1]), sell(shop, 9_999)):
            with pytest.raises(Rejected):
                await refused
        await _thresholds(shop).change({"velocity_mode": "watch"})
        await sell(shop)
        assert len(await shop.rows("SELECT * FROM screenings")) == 4
        before = await shop.ledger.read(lambda connection: tables_digest(connection, [ScreeningProjection()]))
        await shop.ledger.rebuild()
        after = await shop.ledger.read(lambda connection: tables_digest(connection, [ScreeningProjection()]))
        assert before == after


async def test_a_terminal_cannot_fill_the_log_with_refusals(tmp_path: Path) -> None:
    async with open_shop(tmp_path, screening=STRICT) as shop:
        before = await size(shop)
        for _ in range(REFUSED_RECORDED_MAX + 5):
            with pytest.raises(Rejected, match="sale_above_ceiling"):
                await sell(shop, 6_000)
        assert await size(shop) == before + REFUSED_RECORDED_MAX


async def test_a_model_in_mode_refuse_refuses_and_without_one_rules_still_work(tmp_path: Path) -> None:
    eager = Screening(model_mode="refuse", model_score_permille=1, sale_ceiling_mode="refuse", sale_ceiling_minor=500)
    async with open_shop(tmp_path, screening=eager) as shop:
        sure = type(MODEL)(sha256=bytes(32), baseline=9.0, trees=(((-1, 0.0, 0, 0),),))
        await shop.screener.load(sure)
        with pytest.raises(Rejected, match="screening_refused"):
            await sell(shop)
        await shop.screener.load(None)
        key = await sell(shop)
        (screened,) = await shop.ledger.read(lambda connection: find_screened(connection, request_key(key)))
        assert (screened.facts.score, screened.facts.model) == (None, None)
        with pytest.raises(Rejected, match="sale_above_ceiling"):
            await sell(shop, 501)


async def test_a_quarantined_box_screens_nothing(tmp_path: Path) -> None:
    async with open_shop(tmp_path, screening=STRICT) as shop:
        shop.quarantine.set("a test")
        before = await size(shop)
        with pytest.raises(Unavailable, match="quarantined"):
            await sell(shop, 9_999)
        assert await size(shop) == before


def _thresholds(shop: Shop) -> Thresholds:
    return Thresholds(screener=shop.screener, ledger=shop.ledger, clock=shop.clock)


async def test_what_was_not_written_moves_no_mean_of_the_terminal(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with open_shop(tmp_path / "a") as quiet, open_shop(tmp_path / "b") as loud:
        scores = []
        for shop in (quiet, loud):
            for _ in range(3):
                await sell(shop, 100)
            large = await sell(shop, 9_000)
            if shop is loud:
                for _ in range(64):
                    await sell(shop, 9_000, large)  # its result again, and again
            shop.clock.pass_time(30 * MINUTE_MS)
            (found,) = await shop.ledger.read(partial(find_screened, key=request_key(await sell(shop, 9_500))))
            scores.append(found.facts.score)
        assert scores[0] == scores[1]

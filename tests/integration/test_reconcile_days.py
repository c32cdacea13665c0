"""Days beside Stripe's balance, one after the other: each is in the log once, and no movement is in none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.api.local.reconcile import look_in_time
from appliance.ledger.entry import decode
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.limits import DAY_MS
from appliance.wire.reconcile_entries import BreakFacts
from provisioning.exports.rows import Row, rows_of
from provisioning.sandbox.stripe_twin_faults import Fault, FaultName
from tests.integration.desk import Desk, open_desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as opened:
        yield opened


async def test_looking_twice_writes_once(desk: Desk) -> None:
    desk.plant(await desk.sell(990), "gone")
    desk.end_day()
    first = await desk.look()
    size = desk.shop.ledger.head.size
    again = await desk.look()
    assert (again.seq, again.is_new, desk.shop.ledger.head.size) == (first.seq, False, size)
    assert again.breaks == first.breaks


async def test_two_looks_at_once_write_one_entry(desk: Desk) -> None:
    desk.plant(await desk.sell(990), "gone")
    desk.end_day()
    async with asyncio.TaskGroup() as group:
        looks = [group.create_task(desk.look()) for _ in range(3)]
    assert len({look.result().seq for look in looks}) == 1
    assert await desk.shop.rows("SELECT count(*) FROM entries WHERE kind = 'reconciled'") == [(1,)]


@pytest.mark.parametrize("is_written", [False, True])
async def test_a_look_whose_commit_fails_is_in_the_log_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    desk.plant(await desk.sell(990), "gone")
    desk.end_day()
    append = desk.shop.ledger.append

    async def fails(*drafts: Any, **more: Any) -> None:
        if is_written:
            await append(*drafts, **more)
        raise OutcomeUnknown("commit_failed", "a test says so")

    with monkeypatch.context() as patched:
        patched.setattr(desk.shop.ledger, "append", fails)
        with pytest.raises(OutcomeUnknown):
            await desk.look()
    assert [each.type for each in (await desk.look()).breaks] == ["late"]
    assert await desk.shop.rows("SELECT count(*) FROM entries WHERE kind = 'reconciled'") == [(1,)]


async def test_a_look_that_was_cut_off_left_nothing_and_the_next_one_is_whole(desk: Desk) -> None:
    desk.plant(await desk.sell(990), "gone")
    desk.end_day()
    size = desk.shop.ledger.head.size
    desk.twin.twin.faults.add(Fault(fault="hang", path="/v1/balance_transactions"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await desk.look()
    desk.twin.twin.faults.clear()
    assert desk.shop.ledger.head.size == size
    assert [each.type for each in (await desk.look()).breaks] == ["late"]


async def test_an_operator_does_not_wait_for_ever_for_a_provider_that_hangs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.sell(990)
    desk.end_day()
    size = desk.shop.ledger.head.size
    monkeypatch.setattr("appliance.api.local.reconcile.LOOK_S_MAX", 0.2)
    desk.twin.twin.faults.add(Fault(fault="hang", path="/v1/balance_transactions"))
    with pytest.raises(Unavailable, match="goes on looking by itself") as told:
        await look_in_time(desk.reconciliation, None)
    assert (told.value.code, desk.shop.ledger.head.size) == ("reconcile_slow", size)
    desk.twin.twin.faults.clear()
    assert (await desk.look()).is_new


async def test_a_movement_whose_time_lies_in_a_compared_day_is_taken_by_the_next(desk: Desk) -> None:
    """The box's clock was wrong for a while; the twin's with it, so its line lies where nobody looks any more."""
    await desk.sell(500)
    desk.end_day()
    await desk.look()
    desk.clock.step(-DAY_MS)
    await desk.sell(990)
    desk.clock.step(DAY_MS)
    await desk.sell(100)
    day = desk.end_day()
    answer = await desk.look()
    assert (answer.day.here.charges, answer.day.here.charged) == (2, 1_090)
    assert [(each.type, each.since, each.expected) for each in answer.breaks] == [("late", day, 990)]


@pytest.mark.parametrize("fault", ["error_then_success", "truncated_json", "rate_limited"])
async def test_half_a_statement_is_no_look_and_the_day_stays_due(desk: Desk, fault: FaultName) -> None:
    await desk.sell(990)
    desk.end_day()
    size = desk.shop.ledger.head.size
    desk.twin.twin.faults.add(Fault(fault=fault, path="/v1/balance_transactions"))
    with pytest.raises(Unavailable):
        await desk.look()
    assert desk.shop.ledger.head.size == size
    assert (await desk.look()).is_new


async def test_days_are_looked_at_in_order_after_the_box_was_off(desk: Desk) -> None:
    await desk.sell(990)
    days = [desk.end_day(), desk.end_day(), desk.end_day()]
    await desk.reconciliation.run_due()
    assert await desk.shop.rows("SELECT day FROM reconcile_days ORDER BY seq") == [(day,) for day in days]
    assert await desk.reconciliation.due() is None


async def test_the_running_day_is_looked_at_and_nothing_is_written(desk: Desk) -> None:
    await desk.sell(990)
    size = desk.shop.ledger.head.size
    answer = await desk.look()
    assert (answer.seq, answer.day.there.gross, desk.shop.ledger.head.size) == (None, 990, size)


async def test_an_accepted_break_is_closed_for_good_and_named_in_the_log(desk: Desk) -> None:
    await desk.sell(500)
    desk.plant(await desk.sell(990), "disputed")
    desk.end_day()
    (found,) = (await desk.look()).breaks
    with pytest.raises(Rejected) as refused:
        await desk.reconciliation.accept("fee", found.subject, "wrong type")
    assert refused.value.code == "break_unknown"
    await desk.reconciliation.accept(found.type, found.subject, "lost the dispute")
    assert (await desk.look()).open_count == 0
    desk.end_day()
    assert (await desk.look()).open_count == 0


async def test_an_auditor_reads_each_look_and_each_break_with_its_end(desk: Desk) -> None:
    desk.plant(await desk.sell(990), "late", late_ms=DAY_MS)
    desk.plant(await desk.sell(500), "disputed")
    first = desk.end_day()
    opened = await desk.look()
    (dispute,) = [each for each in opened.breaks if each.type == "missing_here"]
    reason = await desk.reconciliation.accept(dispute.type, dispute.subject, "lost the dispute")
    second = desk.end_day()
    closed = await desk.look()
    encoded = await desk.shop.rows("SELECT entry FROM entries ORDER BY seq")
    rows, changes = [], {}
    for (entry,) in encoded:
        for made in rows_of(decode(entry)):
            if isinstance(made, Row):
                rows.append(made)
            elif made.table == "breaks":
                changes[made.key] = made.cells
    looks = [
        (row.cells["day"], row.cells["gross_minor"], row.cells["open"]) for row in rows if row.table == "reconciled"
    ]
    assert looks == [(first, 0, 2), (second, 990, 0)]
    breaks = {row.cells["break"]: row.cells["type"] for row in rows if row.table == "breaks"}
    assert sorted(str(kind) for kind in breaks.values()) == ["late", "missing_here"]
    ends = {breaks[name]: cells for name, cells in changes.items()}
    assert ends["late"]["closed_seq"] == closed.seq
    assert ends["missing_here"] == {"closed_seq": reason, "reason": "lost the dispute"}


async def test_many_breaks_stand_in_several_entries_of_one_commit(desk: Desk) -> None:
    await desk.sell(500)
    create = desk.twin.sdk().v1.payment_intents.create_async
    for number in range(120):
        await create({"amount": 1_000 + number, "currency": "eur", "confirm": True, "payment_method": "pm_card_visa"})
    desk.end_day()
    answer = await desk.look()
    assert (answer.open_count, answer.day.more, len(answer.day.opened)) == (120, 2, 120)
    assert sum(each.amount for each in answer.day.differences) == sum(1_000 + number for number in range(120))


@pytest.mark.parametrize(
    ("day", "code"), [("tomorrow", "day_malformed"), ("2026-09-01", "day_unknown"), ("2027-01-01", "day_unknown")]
)
async def test_a_day_that_cannot_be_told_is_refused(desk: Desk, day: str, code: str) -> None:
    await desk.sell(990)
    desk.end_day()
    with pytest.raises(Rejected) as refused:
        await desk.look(day)
    assert refused.value.code == code


def test_break_facts_never_hold_a_name_of_a_person() -> None:
    assert not {"cashier", "customer"} & set(BreakFacts.__struct_fields__)

"""A misused till shows in the log, once a minute, and cannot fill it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance.crypto import cbor
from appliance.identity.refusals import Refusals
from appliance.ledger.ledger import Ledger
from appliance.model.limits import MINUTE_MS
from tests.fakes.clock import FakeClock
from tests.unit.ledger.shop import open_ledger, running
from tests.unit.payment.shop import PROJECTIONS


async def summaries(ledger: Ledger) -> list[object]:
    page = await ledger.entries(-1, 1_000, frozenset({"refusals"}))
    return [cbor.decode(entry.body, size_max=65_536) for entry in page.entries]


async def test_one_summary_for_each_terminal_and_minute(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running(await open_ledger(tmp_path, clock=clock, projections=PROJECTIONS)) as ledger:
        refusals = Refusals(ledger=ledger, clock=clock)
        service = asyncio.create_task(refusals.run())
        for _ in range(1_000):
            refusals.count("till-1", "tax_wrong")
        refusals.count("till-1", "key_reused")
        refusals.count("till-2", "tax_wrong")
        await clock.advance(MINUTE_MS - 1)
        assert await summaries(ledger) == []
        await clock.advance(1)
        async with asyncio.timeout(10):
            await ledger.wait_beyond(3)  # genesis, epoch and the first summary
        await clock.settle()
        expected: list[object] = [
            {"terminal": "till-1", "codes": {"key_reused": 1, "tax_wrong": 1_000}},
            {"terminal": "till-2", "codes": {"tax_wrong": 1}},
        ]
        assert await summaries(ledger) == expected
        await clock.advance(MINUTE_MS)
        assert await summaries(ledger) == expected, "a quiet minute writes nothing"
        service.cancel()
        await asyncio.wait([service])


async def test_strangers_are_not_remembered(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path, projections=PROJECTIONS)) as ledger:
        refusals = Refusals(ledger=ledger, clock=FakeClock())
        for code in ("terminal_unknown", "terminal_revoked", "signature_wrong", "terminal_mismatch"):
            refusals.count("till-1", code)
        await refusals.flush()
        assert await summaries(ledger) == []


async def test_what_comes_while_a_summary_is_written_is_in_the_next(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path, projections=PROJECTIONS)) as ledger:
        refusals = Refusals(ledger=ledger, clock=FakeClock())
        refusals.count("till-1", "tax_wrong")
        writing = asyncio.create_task(refusals.flush())
        await asyncio.sleep(0)
        refusals.count("till-1", "key_reused")
        await writing
        await refusals.flush()
        assert await summaries(ledger) == [
            {"terminal": "till-1", "codes": {"tax_wrong": 1}},
            {"terminal": "till-1", "codes": {"key_reused": 1}},
        ]


async def test_codes_of_one_terminal_are_bounded(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path, projections=PROJECTIONS)) as ledger:
        refusals = Refusals(ledger=ledger, clock=FakeClock())
        for number in range(100):
            refusals.count("till-1", f"code_{number}")
        await refusals.flush()
        (summary,) = await summaries(ledger)
        assert isinstance(summary, dict)
        assert len(summary["codes"]) == 33
        assert summary["codes"]["other"] == 68

"""Credentials of auditors end, and what they read is summed up once a minute."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.crypto import cbor
from appliance.identity.auditor_reads import AuditorReads
from appliance.identity.auditors import AuditorProjection, Auditors
from appliance.ledger.ledger import Ledger
from appliance.ledger.projection import tables_digest
from appliance.model.errors import Rejected
from appliance.model.limits import DAY_MS, MINUTE_MS
from tests.fakes.clock import FakeClock
from tests.unit.ledger.shop import open_ledger, running

PROJECTIONS = (AuditorProjection(),)


async def bodies(ledger: Ledger, kind: str) -> list[object]:
    page = await ledger.entries(-1, 1_000, frozenset({kind}))
    return [cbor.decode(entry.body, size_max=65_536) for entry in page.entries]


async def test_credential_is_valid_until_its_end_also_over_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running(await open_ledger(tmp_path, clock=clock, projections=PROJECTIONS)) as ledger:
        auditors = Auditors(ledger=ledger, clock=clock)
        made = await auditors.admit("Tax office", 2)
        assert auditors.authenticate(f"Bearer {made.token}").name == "Tax office"
    async with running(await open_ledger(tmp_path, clock=clock, projections=PROJECTIONS)) as ledger:
        auditors = Auditors(ledger=ledger, clock=clock)
        await auditors.load()
        clock.pass_time(2 * DAY_MS - 1)
        assert auditors.authenticate(f"Bearer {made.token}").credential == made.credential
        clock.pass_time(1)
        with pytest.raises(Rejected, match="auditor_expired"):
            auditors.authenticate(f"Bearer {made.token}")


async def test_a_credential_that_never_was_is_not_called_revoked(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path, projections=PROJECTIONS)) as ledger:
        auditors = Auditors(ledger=ledger, clock=FakeClock())
        made = await auditors.admit("Tax office", 2)
        await auditors.revoke(made.credential, "left")
        with pytest.raises(Rejected, match="was revoked before"):
            await auditors.revoke(made.credential, "again")
        with pytest.raises(Rejected, match="auditor_unknown: expected a credential that was admitted"):
            await auditors.revoke("0123456789abcdef", "never was")


@pytest.mark.parametrize("header", ["{}", "Bearer  {}", "Bearer {} ", "Bearer {}\n", "Basic {}", "Bearer {}x"])
async def test_header_of_another_form_is_no_credential(tmp_path: Path, header: str) -> None:
    async with running(await open_ledger(tmp_path, projections=PROJECTIONS)) as ledger:
        auditors = Auditors(ledger=ledger, clock=FakeClock())
        made = await auditors.admit("Tax office", 2)
        with pytest.raises(Rejected, match="auditor_unknown"):
            auditors.authenticate(header.format(made.token))


async def test_table_of_credentials_is_rebuilt_from_the_log(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path, projections=PROJECTIONS)) as ledger:
        auditors = Auditors(ledger=ledger, clock=FakeClock())
        made = await auditors.admit("Tax office", 2)
        await auditors.admit("Head office", 3)
        await auditors.revoke(made.credential, "lost")
        before = await ledger.read(lambda connection: tables_digest(connection, PROJECTIONS))
        await ledger.rebuild()
        assert await ledger.read(lambda connection: tables_digest(connection, PROJECTIONS)) == before


async def test_reads_are_one_entry_for_each_credential_and_minute(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running(await open_ledger(tmp_path, clock=clock, projections=PROJECTIONS)) as ledger:
        reads = AuditorReads(ledger=ledger, clock=clock)
        service = asyncio.create_task(reads.run())
        reads.count("aa", range(256, 512))
        reads.count("aa", (3, 900))
        reads.count("aa", ())
        reads.count("bb", range(1))
        await clock.advance(MINUTE_MS)
        async with asyncio.timeout(10):
            await ledger.wait_beyond(3)
        await clock.settle()
        expected: list[object] = [
            {"credential": "aa", "first": 3, "last": 900, "entries": 258, "requests": 2},
            {"credential": "bb", "first": 0, "last": 0, "entries": 1, "requests": 1},
        ]
        assert await bodies(ledger, "auditor_read") == expected
        await clock.advance(MINUTE_MS)
        assert await bodies(ledger, "auditor_read") == expected, "a quiet minute writes nothing"
        service.cancel()
        await asyncio.wait([service])


async def test_reads_are_kept_while_the_ledger_takes_nothing(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path, projections=PROJECTIONS)) as ledger:
        reads = AuditorReads(ledger=ledger, clock=FakeClock())
        reads.count("aa", range(10, 20))
        ledger._fail(OSError("a disk that failed"))
        await reads.flush()
        reads.count("aa", range(5, 6))
        assert await bodies(ledger, "auditor_read") == []
        ledger._failure = None
        await reads.flush()
        assert await bodies(ledger, "auditor_read") == [
            {"credential": "aa", "first": 5, "last": 19, "entries": 11, "requests": 2}
        ]

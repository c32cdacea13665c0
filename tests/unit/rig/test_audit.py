"""Owns the promises of the auditor outside: entries come out of bundles as they went in, and a lost one is seen."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from appliance.ledger.database import connect_reader
from appliance.ledger.tlog import encode_bundle
from tests.crash.invariants import Told
from tests.rig.audit import check, entries_of
from tests.unit.ledger.shop import open_ledger, running


@pytest.mark.parametrize("entries", [[], [b"a"], [b"", b"b" * 300, b"c" * 65_535]])
def test_entries_come_out_of_a_bundle_as_they_went_in(entries: list[bytes]) -> None:
    assert entries_of(encode_bundle(entries)) == entries


async def begin_log(folder: Path) -> int:
    async with running(await open_ledger(folder)) as ledger:
        return ledger.head.size


def test_answer_that_a_till_believed_and_the_log_lacks_is_seen(tmp_path: Path) -> None:
    size = asyncio.run(begin_log(tmp_path))
    with closing(connect_reader(tmp_path)) as connection:
        encoded = [row[0] for row in connection.execute("SELECT entry FROM entries ORDER BY seq")]
    assert len(encoded) == size
    assert check(encoded, [], []) == {}
    key = "01a0c450-6c00-7000-8000-000000000001"
    with pytest.raises(AssertionError, match="acknowledged and lost"):
        check(encoded, [Told(key=key, payment=key, state="approved")], [])

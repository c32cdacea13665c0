"""An exported log verifies elsewhere, and says what is wrong with it when it does not."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from appliance.ledger.draft import Purpose
from appliance.ledger.export import verify_export, write_log
from appliance.ledger.trust import Trust, encode_trust, load_trust
from appliance.ledger.verify import BadEntry
from appliance.model.errors import Rejected
from tests.unit.ledger.shop import genesis, open_ledger, owner, running, sale


def trust() -> Trust:
    return load_trust(encode_trust(owner().public, [genesis()]))


async def exported(folder: Path, *, without_last: int = 0) -> bytes:
    async with running(await open_ledger(folder)) as ledger:
        await ledger.append([sale(f"k{at}") for at in range(300)], purpose=Purpose.OUTCOME)
        bundle = await ledger.receipts([301], wait_ms=5_000)
        assert bundle is not None
        rows = await ledger.read(lambda c: c.execute("SELECT entry FROM entries ORDER BY seq").fetchall())
        file = io.BytesIO()
        write_log(file, (row[0] for row in rows[: len(rows) - without_last]), bundle.head)
        return file.getvalue()


async def test_an_exported_log_verifies_with_the_owner_key_alone(tmp_path: Path) -> None:
    verified = verify_export(io.BytesIO(await exported(tmp_path)), trust(), check_bodies=True)
    assert verified.log.size == 302


async def test_each_damage_has_its_name(tmp_path: Path) -> None:
    file = await exported(tmp_path)
    with pytest.raises(Rejected, match="export_truncated"):
        verify_export(io.BytesIO(file[:-1]), trust())
    with pytest.raises(Rejected, match="export_malformed"):
        verify_export(io.BytesIO(file + b"\x00"), trust())
    with pytest.raises(Rejected, match="export_malformed"):
        verify_export(io.BytesIO(b"x" + file[1:]), trust())
    with pytest.raises(BadEntry, match="entry 11"):
        verify_export(io.BytesIO(file.replace(b"ckey\x62k8", b"ckey\x62k9", 1)), trust())


async def test_a_log_cut_between_two_entries_is_not_what_the_head_signed(tmp_path: Path) -> None:
    file = await exported(tmp_path, without_last=1)
    with pytest.raises(Rejected, match="export_head_mismatch"):
        verify_export(io.BytesIO(file), trust())

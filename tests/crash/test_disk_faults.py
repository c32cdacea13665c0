"""A disk that fails, lies, fills up or loses power: nothing acknowledged is lost, nothing torn is believed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.ledger.opening import Opened, open_folder
from appliance.ledger.projection import tables_digest
from appliance.ledger.rebuild import rebuild
from appliance.ledger.verify import verify_log
from appliance.model.errors import Rejected
from tests.crash.disk import Disk, acknowledged, build_shim, cut_power
from tests.unit.ledger.shop import STORE_KEY, Sales

CUTS = int(os.environ.get("POWER_CUTS", "60"))
SEED = int(os.environ.get("POWER_CUT_SEED", "1"))


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def disk(tmp_path: Path, shim: Path) -> Disk:
    folder = tmp_path / "ledger"
    folder.mkdir()
    return Disk(folder=folder, log=tmp_path / "changes", fault=tmp_path / "fault", shim=shim)


def check(folder: Path, told: Sequence[str]) -> None:
    """Open as after a power cut: what was told is there, what is there is whole, tables are what the log says."""
    try:
        opened = open_folder(folder, projections=(Sales(),), store_key=STORE_KEY, beginning=None)
    except Rejected:  # `ledger_empty`: the power went before anything was promised
        assert not told
        return
    try:
        check_opened(opened, told)
    finally:
        assert opened.vault is not None
        opened.vault.close()
        opened.reading.close()
        opened.connection.close()
        os.close(opened.lock)


def check_opened(opened: Opened, told: Sequence[str]) -> None:
    rows = opened.connection.execute("SELECT entry FROM entries ORDER BY seq").fetchall()
    verified = verify_log([row[0] for row in rows], owner=None, check_bodies=True)
    assert (verified.size, verified.root) == (opened.tail.size, opened.tail.root)
    sold = {row[0] for row in opened.connection.execute("SELECT key FROM sales")}
    keys = {what for what in told if not what.startswith("head:")}
    assert keys <= sold, f"lost: {sorted(keys - sold)}"
    for what in told:
        if what.startswith("head:"):
            _, size, root = what.split(":")
            assert verify_log([row[0] for row in rows[: int(size)]], owner=None).root.hex() == root
    before = tables_digest(opened.connection, (Sales(),))
    rebuild(opened.connection, opened.projector.projections, opened.vault)
    assert tables_digest(opened.connection, (Sales(),)) == before


def check_cuts(disk: Disk, tmp_path: Path, cuts: int) -> None:
    """Cut the power at many moments of a recording, and right after each of its last acknowledgements."""
    changes = disk.changes()
    randomness = random.Random(SEED)
    moments = [randomness.randint(0, len(changes)) for _ in range(cuts)]
    moments += [at + 1 for at, change in enumerate(changes) if change.name == "acks"][-10:]
    moments += [at + 1 for at, change in enumerate(changes) if change.kind in "RUDF"]
    for number, moment in enumerate(moments):
        target = tmp_path / f"cut-{number}"
        target.mkdir()
        cut_power(changes[:moment], target, randomness)
        try:
            check(target, acknowledged(changes[:moment]))
        except BaseException as error:
            error.add_note(f"power cut {number} after change {moment} of {len(changes)}, POWER_CUT_SEED={SEED}")
            raise
        shutil.rmtree(target)


def test_nothing_acknowledged_is_lost_by_a_power_cut_at_any_moment(disk: Disk, tmp_path: Path) -> None:
    ended = disk.run("sell", "30")
    assert ended.stdout.split() == ["sold"], ended.stderr
    check_cuts(disk, tmp_path, CUTS)


@pytest.mark.parametrize("after", ["0", "1"])
def test_a_failed_fsync_ends_the_ledger_and_loses_nothing_acknowledged(disk: Disk, tmp_path: Path, after: str) -> None:
    ended = disk.run("fault", f"sync ledger.db-wal eio {after}")
    said = ended.stdout.split()
    expected = ["OutcomeUnknown:commit_failed", "Unavailable:ledger_failed", "failed"]
    assert said == (expected if after == "0" else ["sold", "sold", "running"]), ended.stderr
    check_cuts(disk, tmp_path, CUTS // 4)


def test_pages_that_only_look_clean_are_written_anew_at_the_next_start(disk: Disk, tmp_path: Path) -> None:
    disk.run("fault", "sync ledger.db-wal eio 0")
    ended = disk.run("sell", "6")
    assert ended.stdout.split() == ["sold"], ended.stderr
    check_cuts(disk, tmp_path, CUTS // 2)


@pytest.mark.parametrize("what", ["enospc", "short"])
def test_a_full_disk_refuses_and_heals_by_itself(disk: Disk, tmp_path: Path, what: str) -> None:
    ended = disk.run("fault", f"write ledger.db-wal {what} 1")
    assert ended.stdout.split() == ["Unavailable:disk_full", "sold", "running"], ended.stderr
    check_cuts(disk, tmp_path, CUTS // 4)


def test_a_write_error_is_not_mistaken_for_a_full_disk(disk: Disk, tmp_path: Path) -> None:
    ended = disk.run("fault", "write ledger.db-wal eio 0")
    assert ended.stdout.split()[0] == "OutcomeUnknown:commit_failed", ended.stderr
    check_cuts(disk, tmp_path, CUTS // 4)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["begin", "admit", "flush", "finish", "commit", "settle", "forget"])
def test_killed_at_any_step_of_the_writer_it_comes_back_whole(disk: Disk, step: str, when: str) -> None:
    calls = "1" if step == "forget" else "7"
    ended = disk.run("kill", step, when, calls)
    assert ended.returncode == -9, ended.stderr
    told = acknowledged(disk.changes())
    check(disk.folder, told)
    # And again: recovery itself may be interrupted and repeated.
    check(disk.folder, told)

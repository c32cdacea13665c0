"""Pruning a real log on disk: bodies go, hashes and proofs stay, and nothing goes that nobody vouches for."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from appliance.ledger import prune
from appliance.ledger.database import connect_writer, database_file
from appliance.ledger.disclosures import DisclosureVault
from appliance.ledger.draft import Purpose
from appliance.ledger.merkle import is_consistent, leaf_hash, root_from_inclusion
from appliance.ledger.opening import with_own
from appliance.ledger.projection import tables_digest
from appliance.ledger.prune import KEPT_MS_MIN, Pruning
from appliance.ledger.pruned import SNAPSHOT
from appliance.ledger.rebuild import rebuild
from appliance.ledger.receipt import verify_receipt
from appliance.ledger.scrub import scrub
from appliance.ledger.snapshot import read_snapshot, snapshot_file
from appliance.ledger.tlog import TilePath
from appliance.ledger.trust import encode_trust
from appliance.ledger.verify import BadEntry
from appliance.model.errors import Bug, Corrupt, Rejected
from provisioning.cli import main
from tests.fakes.log import write_sales
from tests.integration.old_log import SIZE, TAIL, YOUNG, Open, World, clock_later, opened, pruned, write_old_log
from tests.unit.ledger.shop import STORE_KEY, Sales, genesis, open_ledger, owner, sale


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail of one tile and steps of two: what is cut at 4,096 and 8,192 entries is cut in a small log too."""
    monkeypatch.setattr(prune, "TAIL_ENTRIES", TAIL)
    monkeypatch.setattr(prune, "STEP_ENTRIES", 512)


@pytest.fixture
async def old(tmp_path: Path) -> Path:
    """A log of 1,600 old entries and 300 young ones."""
    folder = tmp_path / "log"
    await write_old_log(folder)
    return folder


async def test_bodies_go_and_every_proof_stays(old: Path) -> None:
    async with opened(old) as box:
        before = {seq: (await box.entry(seq), await box.archive.inclusion(seq, 1_900)) for seq in (0, 2, 700, 1_535)}
        consistency = await box.archive.consistency(1_000, 1_900)
        tile = await box.archive.tile(TilePath(level=0, number=2, width=256))
        await pruned(box)
        assert box.rows("SELECT count(*) FROM entries WHERE seq < 1536") == [(1,)], "the genesis stays"
        assert box.rows("SELECT count(*) FROM disclosures") == [(0,)]
        size = box.ledger.head.size
        for seq, (entry, proof) in before.items():
            assert await box.archive.inclusion(seq, 1_900) == proof
            newest = await box.archive.inclusion(seq, size)
            root = root_from_inclusion(leaf_hash(entry), seq, size, newest.path)
            assert root == box.ledger.head.root, "whoever kept the entry still proves it"
        assert await box.archive.consistency(1_000, 1_900) == consistency
        proof_of_all = await box.archive.consistency(1_000, size)
        old_root = (await box.archive.inclusion(0, 1_000)).head.root
        assert is_consistent(1_000, old_root, size, box.ledger.head.root, proof_of_all)
        assert await box.archive.tile(TilePath(level=0, number=2, width=256)) == tile
        receipt = await box.ledger.receipts((700, 1_536), 1_000)
        assert receipt is not None
        assert [proven.seq for proven in receipt.entries] == [1_536], "what is left is proven"
        assert verify_receipt(receipt.encode(), {genesis().log_id: box.ledger.keys}).size == 1_900


@pytest.mark.parametrize(
    "ask",
    [
        lambda box: box.archive.entry(700),
        lambda box: box.archive.entries((1_700, 1_535)),
        lambda box: box.archive.bundle(TilePath(level=None, number=5, width=256)),
        lambda box: box.ledger.receipts((700, 701), 1_000),
        lambda box: box.archive.digest_at(1),
    ],
)
async def test_what_is_gone_is_refused_as_pruned_and_never_called_damage(
    old: Path, ask: Callable[[Open], AsyncIterator[object]]
) -> None:
    async with opened(old) as box:
        await pruned(box)
        with pytest.raises(Rejected, match="entry_pruned"):
            await ask(box)  # type: ignore[misc] # each is awaitable


async def test_nothing_goes_without_a_snapshot_under_a_cosigned_checkpoint(old: Path) -> None:
    async with opened(old) as box:
        with pytest.raises(Rejected, match="snapshot_needed"):
            await box.pruning.prune(KEPT_MS_MIN)
        seq = await box.pruning.take_snapshot()
        box.world.cosigned = seq  # one entry short: the snapshot's own entry is not covered
        with pytest.raises(Rejected, match="snapshot_not_cosigned"):
            await box.pruning.prune(KEPT_MS_MIN)
        assert box.world.asked[-1] == seq + 1
        assert box.rows("SELECT count(*) FROM entries WHERE seq < 1536") == [(1_536,)]
        with pytest.raises(Rejected, match="expected to keep 91 days or more, saw"):
            await box.pruning.prune(KEPT_MS_MIN - 1)


async def test_what_is_young_or_needed_stays(old: Path) -> None:
    async with opened(old, World(floor=800)) as box:
        await pruned(box)
        assert box.rows("SELECT min(seq) FROM entries WHERE seq > 0") == [(768,)], "whole tiles below what is needed"
        with pytest.raises(Rejected, match="nothing_to_prune"):
            await box.pruning.prune(KEPT_MS_MIN)
        box.world.floor = None
        plan = await box.pruning.prune(KEPT_MS_MIN)
        assert (plan.pruned_below, plan.below) == (768, 1_536)
        assert box.rows("SELECT min(seq) FROM entries WHERE seq > 0") == [(1_536,)], "1,600 old ones, in whole tiles"


async def test_a_snapshot_that_is_not_what_its_entry_says_prunes_nothing(old: Path) -> None:
    async with opened(old) as box:
        box.world.cosigned = await box.pruning.take_snapshot() + 1
        file = snapshot_file(old, 1_900)
        with closing(sqlite3.connect(file)) as side, side:
            side.execute("UPDATE sales SET amount = 2 WHERE key = 'old-7'")
        with pytest.raises(Rejected, match="snapshot_damaged"):
            await box.pruning.prune(KEPT_MS_MIN)
        file.write_bytes(b"no database" * 500)
        with pytest.raises(Rejected, match="snapshot_damaged"):
            await box.pruning.prune(KEPT_MS_MIN)
        file.unlink()
        with pytest.raises(Rejected, match="snapshot_missing"):
            await box.pruning.prune(KEPT_MS_MIN)
        assert box.rows("SELECT count(*) FROM entries WHERE seq < 1536") == [(1_536,)]


def snapshots(folder: Path) -> list[Path]:
    return sorted(folder.glob("snapshot-*.db"))


def digest_and_rebuilt(folder: Path) -> tuple[bytes, bytes]:
    every = with_own((Sales(),))
    with closing(connect_writer(folder)) as connection:
        before = tables_digest(connection, every)
        vault = DisclosureVault(folder, STORE_KEY)
        try:
            rebuild(connection, every, vault)
        finally:
            vault.close()
        return before, tables_digest(connection, every)


async def test_rebuilding_a_pruned_log_gives_the_same_tables(old: Path) -> None:
    async with opened(old) as box:
        await pruned(box)
        await box.ledger.append([sale("after")], purpose=Purpose.OUTCOME)
    before, after = await asyncio.to_thread(digest_and_rebuilt, old)
    assert before == after
    async with opened(old) as again:
        assert again.rows("SELECT count(*) FROM sales") == [(SIZE - 3 + YOUNG + 1,)]
        await again.ledger.rebuild()


async def test_a_second_snapshot_replaces_the_first(old: Path) -> None:
    async with opened(old, World(floor=800)) as box:
        await pruned(box)
        box.world.floor = None
        await pruned(box)
    assert [file.name for file in snapshots(old)] == ["snapshot-1903.db"]
    before, after = await asyncio.to_thread(digest_and_rebuilt, old)
    assert before == after


async def test_a_rebuild_without_its_snapshot_is_refused_and_changes_nothing(old: Path) -> None:
    async with opened(old) as box:
        await pruned(box)
    (file,) = snapshots(old)
    with closing(sqlite3.connect(file)) as side, side:
        side.execute("DELETE FROM sales WHERE key = 'old-7'")
    with pytest.raises(Corrupt, match="snapshot_damaged"):
        await asyncio.to_thread(digest_and_rebuilt, old)
    file.unlink()
    with pytest.raises(Corrupt, match="snapshot_missing"):
        await asyncio.to_thread(digest_and_rebuilt, old)
    async with opened(old) as again:
        assert again.rows("SELECT count(*) FROM sales") == [(SIZE - 3 + YOUNG,)]


class WiderSales(Sales):
    """Tables of a later release."""

    schema = (Sales.schema[0], f"{Sales.schema[1]} STRICT")


async def test_tables_that_need_pruned_entries_are_refused_precisely(old: Path) -> None:
    async with opened(old) as box:
        await pruned(box)
    with pytest.raises(Corrupt, match="snapshot_outdated"):
        await open_ledger(old, projections=(WiderSales(),), clock=clock_later(old))


@pytest.mark.parametrize("point", ["taken", "entry", "step 1", "step 2", "step 3", "tidy"])
async def test_broken_off_anywhere_the_next_call_ends_it(
    old: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(cosigned=1 << 40)
    async with opened(old, world) as box:
        with monkeypatch.context() as patch:
            break_at(patch, box.pruning, point)
            with pytest.raises(Bug, match="power"):
                await snapshot_and_prune(box)
        await asyncio.to_thread(check, old)
    async with opened(old, world) as again:
        await asyncio.to_thread(check, old)
        if point in ("step 3", "tidy"):
            with pytest.raises(Rejected, match="nothing_to_prune"):
                await again.pruning.prune(KEPT_MS_MIN)
        else:
            await snapshot_and_prune(again)
        assert again.rows("SELECT min(seq) FROM entries WHERE seq > 0") == [(1_536,)]
        await asyncio.to_thread(check, old)
    before, after = await asyncio.to_thread(digest_and_rebuilt, old)
    assert before == after


async def snapshot_and_prune(box: Open) -> None:
    await box.pruning.take_snapshot()
    await box.pruning.prune(KEPT_MS_MIN)


def break_at(patch: pytest.MonkeyPatch, pruning: Pruning, point: str) -> None:
    """The power goes after the file, after its entry, after each step's entry, or before the tidying."""
    append, count = pruning._append, 0
    places = ["entry", "step 1", "step 2", "step 3"]

    async def breaking(kind: str, body: bytes) -> int:
        nonlocal count
        if point == "taken":
            raise Bug("power", "gone")
        seq = await append(kind, body)
        count += 1
        if places[count - 1] == point:
            raise Bug("power", "gone")
        return seq

    async def untidy() -> None:
        if point == "tidy":
            raise Bug("power", "gone")

    patch.setattr(pruning, "_append", breaking)
    patch.setattr(pruning, "_tidy", untidy)


def check(folder: Path) -> int:
    with closing(sqlite3.connect(database_file(folder))) as connection:
        return scrub(connection, log_id=genesis().log_id, turn=lambda *_: None).pruned


async def test_the_scrub_tells_pruned_from_lost(old: Path) -> None:
    async with opened(old) as box:
        await pruned(box)
    assert await asyncio.to_thread(check, old) == 1_535
    copy = old.with_name("copy")
    for statement, found in (
        ("DELETE FROM entries WHERE seq = 1600", "entry_missing"),
        ("DELETE FROM entries WHERE kind = 'pruned'", "entry_missing"),
        ("UPDATE pruned SET below = 1792", None),
        ("UPDATE tiles SET hashes = zeroblob(8192) WHERE level = 0 AND number = 3", "tile_root_mismatch"),
    ):
        shutil.copytree(old, copy, dirs_exist_ok=True)
        with closing(sqlite3.connect(database_file(copy))) as connection, connection:
            connection.execute(statement)
        if found is None:
            assert await asyncio.to_thread(check, copy) == 1_535, "a table is believed about nothing"
        else:
            with pytest.raises(BadEntry, match=found):
                await asyncio.to_thread(check, copy)
        shutil.rmtree(copy)


async def test_rows_removed_under_a_lying_table_are_found(old: Path) -> None:
    async with opened(old) as box:
        await pruned(box)
    with closing(sqlite3.connect(database_file(old))) as connection, connection:
        connection.execute("UPDATE pruned SET below = 1792")
        connection.execute("DELETE FROM entries WHERE seq BETWEEN 1536 AND 1700")
    with pytest.raises(BadEntry, match="no entry says that it was pruned") as caught:
        await asyncio.to_thread(check, old)
    assert caught.value.seq == 1_700


async def test_an_export_of_a_pruned_log_is_genuine_and_says_what_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "ledger", tmp_path / "log.bin"
    await write_sales(folder, 900)
    (tmp_path / "trust.json").write_bytes(encode_trust(owner().public, [genesis()]))
    trust = ["--trust", str(tmp_path / "trust.json")]
    async with opened(folder, projections=()) as box:
        await pruned(box)
        newest = await box.ledger.receipts((box.ledger.head.size - 1,), 10_000)
        assert newest is not None
        (tmp_path / "receipt.cbor").write_bytes(newest.encode())
    asked = ["--dir", str(folder), "--receipt", str(tmp_path / "receipt.cbor"), "-o", str(output)]
    assert await asyncio.to_thread(main, ["export", "log", *asked]) == 0
    assert output.read_bytes().startswith(b"tillstone log v2\n")
    for path in (folder, output):
        capsys.readouterr()
        assert await asyncio.to_thread(main, ["verify", "log", str(path), "--json", *trust]) == 0
        assert json.loads(capsys.readouterr().out)["pruned"] == 511
    assert await asyncio.to_thread(main, ["verify", "log", str(output), *trust]) == 0
    assert "511 were pruned" in capsys.readouterr().out
    assert (
        await asyncio.to_thread(
            main, ["export", "sqlite", "--log", str(output), *trust, "-o", str(tmp_path / "auditor.sqlite")]
        )
        == 0
    )
    changed = bytearray(output.read_bytes())
    changed[2_000] ^= 1
    output.write_bytes(changed)
    assert await asyncio.to_thread(main, ["verify", "log", str(output), *trust]) == 1


async def test_no_snapshot_holds_what_can_be_erased(old: Path) -> None:
    async with opened(old) as box:
        await pruned(box)
        (snapshot,) = [entry.body for entry in (await box.ledger.entries(1_899, 10)).entries if entry.kind == SNAPSHOT]
    assert read_snapshot(snapshot).size == 1_900
    assert all(b"Prunkvogel" not in file.read_bytes() for file in files(old))


def files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.is_file()]

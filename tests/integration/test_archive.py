"""The archive on a real file, read by a stranger: a reader written from the C2SP pages and RFC 9162 alone."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from appliance.ledger.archive import Archive
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.merkle import is_consistent, root_from_inclusion
from appliance.ledger.tlog import TilePath, read_tile_path, tiles_of
from appliance.model.errors import Rejected, Unavailable
from tests.fakes.clock import START_MS
from tests.unit.ledger.shop import open_ledger, running, sale


@contextlib.asynccontextmanager
async def archived(folder: Path, entries: int) -> AsyncIterator[tuple[Ledger, Archive]]:
    """A log of `entries` entries, and its archive."""
    async with running(await open_ledger(folder)) as ledger:
        archive = await Archive.open(folder, lambda: ledger.tail)
        try:
            missing = entries - ledger.head.size
            if missing > 0:
                await ledger.append([sale(f"k{at}") for at in range(missing)], purpose=Purpose.OUTCOME)
            yield ledger, archive
        finally:
            await archive.close()


class Stranger:
    """Reads a log through its resources only; knows nothing of our code."""

    def __init__(self, resources: dict[str, bytes], size: int) -> None:
        self._resources = resources
        self._size = size

    def leaf(self, index: int) -> bytes:
        tile = self._tile(0, index // 256)
        return tile[index % 256 * 32 :][:32]

    def root(self) -> bytes:
        """MTH of RFC 9162 section 2.1.1 over the leaf tiles."""
        return self._tree([self.leaf(index) for index in range(self._size)])

    def check_upper_levels(self) -> None:
        """Each hash above level 0 is the root of the full tile below it."""
        level = 1
        while self._size >> 8 * level:
            for index in range(self._size >> 8 * level):
                below = self._tile(level - 1, index)
                assert len(below) == 8192
                hashes = [below[at : at + 32] for at in range(0, 8192, 32)]
                assert self._tile(level, index // 256)[index % 256 * 32 :][:32] == self._tree(hashes)
            level += 1

    def entries(self) -> list[bytes]:
        entries = []
        for number in range((self._size + 255) // 256):
            width = min(256, self._size - 256 * number)
            bundle = self._resources[f"entries/{number:03}" + ("" if width == 256 else f".p/{width}")]
            while bundle:
                (length,) = struct.unpack(">H", bundle[:2])
                entries.append(bundle[2 : 2 + length])
                bundle = bundle[2 + length :]
        return entries

    def _tile(self, level: int, number: int) -> bytes:
        width = min(256, (self._size >> 8 * level) - 256 * number)
        return self._resources[f"{level}/{number:03}" + ("" if width == 256 else f".p/{width}")]

    def _tree(self, hashes: list[bytes]) -> bytes:
        if len(hashes) == 1:
            return hashes[0]
        split = 1
        while 2 * split < len(hashes):
            split *= 2
        return sha256(b"\x01" + self._tree(hashes[:split]) + self._tree(hashes[split:])).digest()


def names_of(size: int) -> list[str]:
    """Every resource of a log of `size` entries, named by the rules of the page."""
    names = [str(path) for path in tiles_of(size)]
    level = 0
    while full := size >> 8 * (level + 1):
        names += [f"{level}/{number:03}" for number in range(full)]
        level += 1
    names += [f"entries/{number:03}" for number in range(size >> 8)]
    return names + ([f"entries/{size >> 8:03}.p/{size % 256}"] if size % 256 else [])


async def fetch(archive: Archive, name: str) -> bytes:
    path = read_tile_path(name)
    return await (archive.bundle(path) if path.level is None else archive.tile(path))


@pytest.mark.parametrize("size", [2, 255, 256, 257, 700, 1_024])
async def test_stranger_finds_the_root_from_the_resources_alone(tmp_path: Path, size: int) -> None:
    async with archived(tmp_path, size) as (ledger, archive):
        assert ledger.head.size == size
        stranger = Stranger({name: await fetch(archive, name) for name in names_of(size)}, size)
        assert stranger.root() == ledger.head.root
        stranger.check_upper_levels()
        entries = stranger.entries()
        assert [sha256(b"\x00" + entry).digest() for entry in entries] == [stranger.leaf(at) for at in range(size)]


async def test_partial_tiles_of_earlier_sizes_stay_and_never_change(tmp_path: Path) -> None:
    async with archived(tmp_path, 2) as (ledger, archive):
        kept: dict[str, bytes] = {}
        for size in (100, 255, 256, 300, 511, 600):
            missing = size - ledger.head.size
            await ledger.append([sale(f"{size}-{at}") for at in range(missing)], purpose=Purpose.OUTCOME)
            kept.update({name: await fetch(archive, name) for name in names_of(size)})
            assert Stranger(kept, size).root() == ledger.head.root
        for name, content in kept.items():
            assert await fetch(archive, name) == content, name


async def test_resources_survive_a_restart(tmp_path: Path) -> None:
    async with archived(tmp_path, 700) as (_, archive):
        before = {name: await fetch(archive, name) for name in names_of(700)}
    async with archived(tmp_path, 700) as (_, archive):
        assert {name: await fetch(archive, name) for name in names_of(700)} == before


@pytest.mark.parametrize("name", ["0/002.p/189", "0/003", "1/000.p/3", "1/000", "2/000.p/1", "63/000", "0/x001/000"])
async def test_tile_beyond_the_log_is_unknown(tmp_path: Path, name: str) -> None:
    async with archived(tmp_path, 700) as (_, archive):
        with pytest.raises(Rejected, match="tile_unknown"):
            await fetch(archive, name)


async def test_bundle_beyond_the_log_is_unknown(tmp_path: Path) -> None:
    async with archived(tmp_path, 700) as (_, archive):
        with pytest.raises(Rejected, match="tile_unknown"):
            await archive.bundle(TilePath(level=None, number=2))


async def test_any_entry_is_proven_under_any_size(tmp_path: Path) -> None:
    async with archived(tmp_path, 700) as (ledger, archive):
        for seq, size in [(0, 1), (0, 700), (255, 256), (256, 257), (300, 513), (699, 700)]:
            proof = await archive.inclusion(seq, size)
            assert proof.head.size == size
            assert root_from_inclusion(proof.leaf, seq, size, proof.path) == proof.head.root
            path = await archive.consistency(size, 700)
            assert is_consistent(size, proof.head.root, 700, ledger.head.root, path)


@pytest.mark.parametrize(
    ("seq", "size", "code"),
    [(0, 0, "size_unknown"), (0, 701, "size_unknown"), (5, 5, "entry_unknown"), (-1, 5, "entry_unknown")],
)
async def test_proof_of_what_is_not_there_is_refused(tmp_path: Path, seq: int, size: int, code: str) -> None:
    async with archived(tmp_path, 700) as (_, archive):
        with pytest.raises(Rejected, match=code):
            await archive.inclusion(seq, size)


@pytest.mark.parametrize(("size1", "size2"), [(0, 5), (6, 5), (5, 701)])
async def test_consistency_of_sizes_that_are_none_is_refused(tmp_path: Path, size1: int, size2: int) -> None:
    async with archived(tmp_path, 700) as (_, archive):
        with pytest.raises(Rejected, match="size_unknown"):
            await archive.consistency(size1, size2)


async def test_digest_at_a_time_is_the_head_of_that_moment(tmp_path: Path) -> None:
    async with archived(tmp_path, 2) as (ledger, archive):
        heads = {}
        for at in range(1, 300):
            kind_body = sale(f"k{at}")
            draft = Draft(kind=kind_body.kind, actor="terminal:1", time_ms=START_MS + 10 * at, body=kind_body.body)
            await ledger.append([draft], purpose=Purpose.OUTCOME)
            heads[START_MS + 10 * at] = ledger.head
        for time_ms, head in heads.items():
            assert (await archive.digest_at(time_ms)).head == head
            assert (await archive.digest_at(time_ms + 9)).head == head
        assert (await archive.digest_at(None)).head == ledger.head
        before = await archive.digest_at(0)
        assert (before.head.size, before.last, before.following and before.following.seq) == (0, None, 0)
        middle = await archive.digest_at(START_MS + 1000)
        assert middle.last is not None
        assert middle.following is not None
        assert (middle.last.time_ms, middle.following.time_ms) == (START_MS + 1000, START_MS + 1010)


async def test_more_readers_than_the_bound_are_refused_and_the_ledger_reads_on(tmp_path: Path) -> None:
    async with archived(tmp_path, 700) as (ledger, archive):
        bundles = [archive.bundle(TilePath(level=None, number=1)) for _ in range(100)]
        answers = await asyncio.gather(*bundles, ledger.entries(-1, 10), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Unavailable)]
        assert len(refused) == 100 - 32
        assert {answer.code for answer in refused} == {"ledger_busy"}
        assert not isinstance(answers[-1], BaseException)

"""Publishing is killed before and after all that it does outside its memory; nothing is skipped or doubled."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from appliance.adapters.ipfs_http import IpfsHttp
from appliance.anchor.store import EvidenceStore
from appliance.model.ids import Cid
from appliance.ports.block_store import BlockStore
from tests.integration.press import DEADLINE_MS, Press, press

_T = TypeVar("_T")


class Killed(BaseException):
    """The process is gone: no handler of ours may see this."""


class Fuse:
    """Burns at the n-th moment; 0 never."""

    def __init__(self, moment: int) -> None:
        self._left = moment

    def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed

    @property
    def is_whole(self) -> bool:
        return self._left > 0


class FusedStore(EvidenceStore):
    """The real file, whose owner may die before and after each commit."""

    fuse: Fuse

    async def write(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        self.fuse.burn()
        result = await super().write(change)
        self.fuse.burn()
        return result


class FusedBlocks:
    """The real adapter, whose owner may die before and after each question."""

    def __init__(self, blocks: BlockStore, fuse: Fuse) -> None:
        self._blocks = blocks
        self._fuse = fuse

    async def keep(self, car: bytes) -> Cid:
        self._fuse.burn()
        root = await self._blocks.keep(car)
        self._fuse.burn()
        return root

    async def block(self, cid: Cid) -> bytes:
        self._fuse.burn()
        return await self._blocks.block(cid)

    async def is_kept(self, cid: Cid) -> bool:
        self._fuse.burn()
        return await self._blocks.is_kept(cid)

    async def close(self) -> None:
        await self._blocks.close()


async def run_once(box: Press, fuse: Fuse) -> None:
    """A process from its start to its end: one step, or death."""
    store = await FusedStore.open(box.folder)
    assert isinstance(store, FusedStore)
    store.fuse = fuse
    blocks = FusedBlocks(await IpfsHttp.open(api_base=box.node.api_base, deadline_ms=DEADLINE_MS), fuse)
    try:
        await box.publisher(store, blocks).step()
    except Killed:
        pass
    finally:
        await blocks.close()
        await store.close()


async def test_no_moment_of_death_skips_or_doubles_an_entry(tmp_path: Path) -> None:
    async with press(tmp_path) as box:
        for moment in itertools.count(1):
            await box.log.grow(1)
            fuse = Fuse(moment)
            await run_once(box, fuse)
            if fuse.is_whole:
                break
            await run_once(box, Fuse(moment))  # killed there again, if it comes that far
            await run_once(box, Fuse(0))
            assert await box.audited() == await box.entries()
            # Nothing stands outside that the box does not know: a second version of a range was never sent.
            assert box.node.pins == set(await box.roots())
        assert moment > 10
        assert box.node.asked.count("dag/import") > moment


async def test_no_moment_of_death_loses_what_a_node_had_lost(tmp_path: Path) -> None:
    async with press(tmp_path) as box:
        await run_once(box, Fuse(0))
        (root,) = await box.roots()
        for moment in itertools.count(1):
            box.node.blocks.clear()
            fuse = Fuse(moment)
            for _ in range(2):  # to notice, and to send again
                await run_once(box, fuse)
            if fuse.is_whole:
                break
            for _ in range(2):
                await run_once(box, Fuse(0))
            assert await box.roots() == [root]
            assert await box.audited() == await box.entries()
        assert moment > 5

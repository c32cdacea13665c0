"""Publishing: everything once, in order, proven; a node that fails or lies costs nothing but time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.anchor import cars
from appliance.anchor.follower import Progress
from appliance.anchor.publish import ENTRIES_BYTES_MAX
from appliance.anchor.store import StoredCheckpoint
from appliance.evidence.car import BLOCK_BYTES_MAX
from appliance.evidence.cid import raw_cid
from appliance.evidence.publication_root import ENTRIES_MAX, read_root
from appliance.ledger.draft import Purpose
from appliance.model.errors import Rejected, TillstoneError
from tests.fakes.ipfs_node import FakeIpfsNode, other_root
from tests.integration.press import Press, press
from tests.unit.ledger.shop import draft


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Press]:
    async with press(tmp_path) as made:
        yield made


async def publish_all(box: Press) -> list[Progress]:
    """Steps until there is nothing more to send."""
    done: list[Progress] = []
    async with box.running() as publisher:
        while not done or done[-1].has_more:
            done.append(await publisher.step())
    return done


async def test_an_auditor_reads_the_whole_log_from_the_node(box: Press) -> None:
    await box.log.grow(600)
    assert await publish_all(box) == [Progress(size=602)]
    assert await box.audited() == await box.entries()
    assert box.node.pins == set(await box.roots())


async def test_what_grows_follows_and_nothing_is_sent_twice(box: Press) -> None:
    for count in (3, 300, 1):
        await box.log.grow(count)
        await publish_all(box)
    await publish_all(box)
    assert await box.audited() == await box.entries()
    assert box.node.asked.count("dag/import") == 3


async def test_a_backlog_is_cut_at_a_bounded_number_of_entries(box: Press) -> None:
    await box.log.grow(2 * ENTRIES_MAX)
    sizes = [progress.size for progress in await publish_all(box)]
    assert sizes == [ENTRIES_MAX, 2 * ENTRIES_MAX, 2 * ENTRIES_MAX + 2]
    assert await box.audited() == await box.entries()


async def test_a_publication_is_cut_at_a_bounded_number_of_bytes(box: Press) -> None:
    large = draft("note", {"text": "x" * 60_000})
    count = ENTRIES_BYTES_MAX // 60_000 + 5
    await box.log.ledger.append([large] * count, purpose=Purpose.OUTCOME)
    assert [progress.has_more for progress in await publish_all(box)] == [True, False]
    assert await box.audited() == await box.entries()
    assert max(map(len, box.node.blocks.values())) < BLOCK_BYTES_MAX


async def test_the_checkpoint_that_others_vouch_for_is_the_one_published(box: Press) -> None:
    await box.log.grow(5)
    await publish_all(box)
    await box.log.grow(5)
    async with box.running() as publisher:
        head, note = await box.log.checkpoints.current_head()
        stored = StoredCheckpoint(size=head.size, root=head.root, note=note, made_ms=1)
        await publisher._store.add_checkpoint(stored)
        await box.log.grow(5)
        assert (await publisher.step()).size == 12
    root = await box.stored(lambda connection: cars.published_root(connection, 12))
    assert root is not None
    assert read_root(root).checkpoint == raw_cid(note)


def wrong_root(node: FakeIpfsNode) -> None:
    node.says["dag/import"] = other_root()


def other_bytes(node: FakeIpfsNode) -> None:
    node.says["block/get"] = b"something else"


def lost_block(node: FakeIpfsNode) -> None:
    node.forgets = True


def no_pin(node: FakeIpfsNode) -> None:
    node.fails["pin/ls"] = "path 'x' is not pinned"


def hanging(verb: str) -> Callable[[FakeIpfsNode], None]:
    return lambda node: node.hangs.add(verb)


def full_disk(node: FakeIpfsNode) -> None:
    node.fails["dag/import"] = "the disk is full"


FAULTS = {
    "names another root": (wrong_root, "block_store_lied"),
    "has other bytes": (other_bytes, "block_store_lied"),
    "loses a block": (lost_block, "block_missing"),
    "does not pin": (no_pin, "block_store_lied"),
    "refuses": (full_disk, "block_store_refused"),
    "hangs while it imports": (hanging("dag/import"), "block_store_away"),
    "hangs while it is read": (hanging("block/get"), "block_store_away"),
    "hangs at its pins": (hanging("pin/ls"), "block_store_away"),
}


@pytest.mark.parametrize(("fault", "code"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_node_that_fails_or_lies_costs_nothing_but_time(
    box: Press, fault: Callable[[FakeIpfsNode], None], code: str
) -> None:
    fault(box.node)
    async with box.running() as publisher:
        for _ in range(2):
            with pytest.raises(TillstoneError) as trouble:
                await publisher.step()
            assert trouble.value.code == code
    assert await box.stored(cars.reached) == 0
    (decided,) = await box.roots()
    box.node.heal()
    await publish_all(box)
    assert await box.roots() == [decided]
    assert await box.audited() == await box.entries()


async def test_a_node_that_is_away_costs_nothing_but_time(box: Press) -> None:
    api_base, box.node.api_base = box.node.api_base, "http://127.0.0.1:1"
    async with box.running() as publisher:
        with pytest.raises(TillstoneError) as trouble:
            await publisher.step()
    assert trouble.value.code == "block_store_away"
    box.node.api_base = api_base
    await publish_all(box)
    assert await box.audited() == await box.entries()


async def test_what_a_node_lost_later_is_sent_again_under_its_old_address(box: Press) -> None:
    for count in (300, 5):
        await box.log.grow(count)
        await publish_all(box)
    roots = await box.roots()
    entries = await box.audited()
    await box.log.grow(1)
    await publish_all(box)
    for forget in (roots[0], read_root(box.node.blocks[roots[0]]).links()[-1]):
        del box.node.blocks[forget]
        for _ in range(3):  # one publication is looked at in each step
            await publish_all(box)
        assert (await box.roots())[:2] == roots
        assert (await box.audited())[: len(entries)] == entries
    assert await box.stored(cars.reached) == 308
    assert sum("publication.lost" in line for line in box.lines) == 2


async def test_a_pin_that_is_gone_is_set_again(box: Press) -> None:
    await publish_all(box)
    box.node.pins.clear()
    await publish_all(box)
    assert box.node.pins == set(await box.roots())


async def test_a_node_that_is_away_later_takes_nothing_back(box: Press) -> None:
    await publish_all(box)
    box.node.hangs.add("block/get")
    async with box.running() as publisher:
        with pytest.raises(TillstoneError):
            await publisher.step()
    assert await box.stored(cars.reached) == 2


async def test_what_the_log_no_longer_gives_is_never_sent_in_its_place(box: Press) -> None:
    box.node.hangs.add("dag/import")
    async with box.running() as publisher:
        with pytest.raises(TillstoneError):
            await publisher.step()
        await publisher._store.write(lambda connection: connection.execute("UPDATE cars SET salt = zeroblob(32)"))
        asked = len(box.node.asked)
        with pytest.raises(Rejected) as refusal:
            await publisher.step()
    assert refusal.value.code == "publication_differs"
    assert len(box.node.asked) == asked


async def test_content_keys_differ_between_publications_and_boxes(box: Press) -> None:
    async with box.running() as publisher:
        first = (await publisher._plan()) or pytest.fail("nothing was decided")
        scope = first.read().scope
        key = publisher._content_key(scope, first.salt)
        assert key != publisher._content_key(replace(scope, end=scope.end + 1), first.salt)
        assert key != publisher._content_key(scope, bytes(32))
        publisher._secret = b"t" * 32
        assert key != publisher._content_key(scope, first.salt)

"""What a box gathers of a publication is what a stranger can check without fetching it, to the last byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.anchor.gather import Gatherer
from appliance.anchor.store import EvidenceStore
from appliance.evidence.bundle import HeadEvidence, read_bundle
from appliance.ledger.checkpoint import Checkpoint
from appliance.ledger.evidence import verify_head, verify_publication
from appliance.ledger.receipt import verify_receipt
from appliance.model.errors import Rejected
from tests.integration.press import ORIGIN, Press, log_keys, press


async def gathered(box: Press, seq: int) -> tuple[HeadEvidence, Checkpoint]:
    """The one published head over entry `seq`, through the file."""
    store = await EvidenceStore.open(box.folder)
    try:
        gatherer = Gatherer(
            ledger=box.log.ledger, archive=box.archive, checkpoints=box.log.checkpoints, store=store, needed=1
        )
        read = read_bundle((await gatherer.bundle([seq])).encode())
    finally:
        await store.close()
    receipt = verify_receipt(read.receipt, {log_keys().log_id: log_keys()})
    (head,) = read.heads
    return head, verify_head(head, receipt, origin=ORIGIN, keys=log_keys())


async def test_a_gathered_publication_is_proven_to_the_last_byte(tmp_path: Path) -> None:
    async with press(tmp_path) as box:
        for count in (600, 3):  # full tiles and growing ones, a first publication and a later one
            await box.log.grow(count)
            async with box.running() as publisher:
                await publisher.step()
            head, checkpoint = await gathered(box, box.log.ledger.head.size - 1)
            published = verify_publication(head, checkpoint, keys=log_keys())
            assert published is not None
            assert published.cid == (await box.roots())[-1]
            assert published.end == box.log.ledger.head.size
            assert head.publication is not None
            for at, tile in enumerate(head.publication.tiles):
                tiles = list(head.publication.tiles)
                tiles[at] = tile[:-1] + bytes([tile[-1] ^ 1])
                other = replace(head, publication=replace(head.publication, tiles=tuple(tiles)))
                with pytest.raises(Rejected):
                    verify_publication(other, checkpoint, keys=log_keys())

"""The witness follower on a real ledger: k of n, no payment ever waits; proof stops the sales, a claim does not."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.anchor.store import EvidenceStore, StoredCheckpoint
from appliance.anchor.witnesses import CHECKPOINTS_KEPT, CosignedCheckpoint
from appliance.evidence.cosignature import WitnessPolicy, require_quorum
from appliance.model.errors import Unavailable
from appliance.ports.witness import OtherHead
from tests.unit.anchor.witnessed_shop import Shop, open_shop
from tests.upstream import witnessed_log


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


def proven(found: CosignedCheckpoint | None, policy: WitnessPolicy) -> tuple[int, int]:
    """Size and count of cosignatures, after a stranger's check."""
    assert found is not None
    text, _, lines = found.note.partition(b"\n\n")
    return found.size, len(require_quorum(text + b"\n", lines, policy))


async def test_all_witnesses_vouch_for_the_newest_head(shop: Shop) -> None:
    follower = shop.follower()
    assert (await follower.step()).size == 5
    assert proven(await follower.newest(), shop.policy(3)) == (5, 6)
    assert (await shop.store.cursor("witness")).size == 5


async def test_a_grown_log_is_proven_from_what_each_witness_knows(shop: Shop) -> None:
    follower = shop.follower()
    await follower.step()
    shop.witnesses[2].is_away = True
    await shop.log.grow(10)
    await follower.step()
    shop.witnesses[2].is_away = False
    await shop.log.grow(10)
    await follower.step()
    assert [witness.size for witness in shop.witnesses] == [25, 25, 25]
    assert shop.witnesses[2].asked == [0, 5, 5]


async def test_k_of_n_is_enough_and_less_is_told(shop: Shop) -> None:
    follower = shop.follower()
    shop.witnesses[0].is_away = True
    assert (await follower.step()).size == 5
    shop.witnesses[1].is_away = True
    await shop.log.grow(1)
    with pytest.raises(Unavailable, match=r"1 of 2 witnesses vouch for 6 entries: w1\.example is away"):
        await follower.step()
    assert proven(await follower.newest(), shop.policy()) == (5, 4)
    assert shop.quarantine.reason is None


async def test_nobody_is_asked_again_for_a_head_that_stands(shop: Shop) -> None:
    follower = shop.follower()
    await follower.step()
    await follower.step()
    assert [len(witness.asked) for witness in shop.witnesses] == [1, 1, 1]


async def test_after_a_start_everybody_is_asked_once(shop: Shop) -> None:
    await shop.follower().step()
    await shop.follower().step()
    assert [witness.asked for witness in shop.witnesses] == [[0, 5]] * 3


async def test_a_lost_store_learns_from_the_witnesses_how_far_they_are(shop: Shop, tmp_path: Path) -> None:
    await shop.follower().step()
    await shop.log.grow(4)
    (tmp_path / "new").mkdir()
    empty = await EvidenceStore.open(tmp_path / "new")
    shop.store, before = empty, shop.store
    follower = shop.follower()
    assert (await follower.step()).size == 9
    assert shop.witnesses[0].asked == [0, 0, 5]
    assert shop.quarantine.reason is None
    await empty.close()
    shop.store = before


async def test_an_answer_that_was_lost_is_asked_for_again(shop: Shop) -> None:
    follower = shop.follower()
    for witness in shop.witnesses:
        witness.fails_after = True
    with pytest.raises(Unavailable, match="witness_quorum_missing"):
        await follower.step()
    for witness in shop.witnesses:
        witness.fails_after = False
    assert (await follower.step()).size == 5
    assert proven(await follower.newest(), shop.policy(3)) == (5, 6)


async def test_a_spoilt_cosignature_is_never_stored(shop: Shop) -> None:
    shop.witnesses[0].spoils_signature = True
    follower = shop.follower(needed=3)
    with pytest.raises(Unavailable, match="does not fit the checkpoint"):
        await follower.step()
    assert proven(await shop.follower().newest(), shop.policy()) == (5, 4)
    assert shop.quarantine.reason is None


async def test_a_witness_that_signs_with_one_of_its_keys_does_not_count(shop: Shop) -> None:
    follower = shop.follower(needed=3)
    shop.witnesses[0]._private.pop()
    with pytest.raises(Unavailable, match="signed with 1 of its 2 keys"):
        await follower.step()


async def test_a_log_that_lost_a_witnessed_head_is_caught_without_a_network(shop: Shop, tmp_path: Path) -> None:
    await shop.follower().step()
    for witness in shop.witnesses:
        witness.is_away = True
    async with witnessed_log(tmp_path / "fork") as fork:
        await fork.grow(8, "other")
        with pytest.raises(Unavailable):
            await shop.follower(fork).check_stored()
    assert shop.quarantine.reason is not None
    assert "witnesses vouched for another log" in shop.quarantine.reason


@pytest.mark.parametrize("answer", [OtherHead(size=2), OtherHead(size=0), OtherHead(size=3)])
async def test_a_witness_that_talks_nonsense_costs_nothing(shop: Shop, answer: OtherHead) -> None:
    shop.witnesses[0].forged_answer = answer
    assert (await shop.follower().step()).size == 5
    assert shop.quarantine.reason is None


async def test_old_checkpoints_are_forgotten_unless_other_evidence_rests_on_them(shop: Shop) -> None:
    for size in range(1, CHECKPOINTS_KEPT + 1):
        old = StoredCheckpoint(size=1000 + size, root=b"r", note=b"n", made_ms=1)
        await shop.store.add_checkpoint(old)
    row = "INSERT INTO cars VALUES (0, 1001, 1001, 'salt', 'root', NULL, NULL)"
    await shop.store.write(lambda connection: connection.execute(row))
    await shop.log.grow(2_000)
    await shop.follower().step()
    for _ in range(2):
        await shop.log.grow(1)
        await shop.follower().step()
    query = "SELECT size FROM checkpoints ORDER BY size"
    sizes = [size for (size,) in await shop.store.read(lambda connection: connection.execute(query).fetchall())]
    assert sizes[:2] == [1001, 1003]
    assert sizes[-3:] == [2005, 2006, 2007]


async def test_the_checkpoint_that_upgrades_a_receipt_covers_its_entry(shop: Shop) -> None:
    follower = shop.follower()
    await follower.step()
    assert await follower.newest(size_min=6) is None
    await shop.log.grow(1)
    await follower.step()
    found = await follower.newest(size_min=6)
    assert found is not None
    assert base64.b64encode(shop.log.ledger.head.root) in found.note

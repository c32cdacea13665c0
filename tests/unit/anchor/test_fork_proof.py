"""Sales stop on a head that both keys of this log signed and that it lacks; a claim without it is an alarm."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from appliance.anchor.follower import BACK_OFF_MS_MIN
from appliance.anchor.fork_proof import FILE, ForkProof
from appliance.anchor.store import EvidenceStore
from appliance.anchor.witnesses import Witnesses
from appliance.crypto import cose
from appliance.device.admission import Quarantine
from appliance.device.health import Level
from appliance.ledger.checkpoint import NOTE_BYTES_MAX, Checkpoint, sign_checkpoint, verify_head
from appliance.model.errors import Unavailable
from appliance.ports.witness import Answer, NotConsistent, OtherHead
from appliance.wiring.followers import disagreement_of
from tests.fakes.signer import FakeSigner
from tests.unit.anchor.witnessed_shop import Shop, open_shop
from tests.unit.ledger.shop import genesis, signers
from tests.upstream import NOTE, WitnessedLog, witnessed_log

ORIGIN: Final = genesis().read().origin
FOREIGN_HEAD: Final = Checkpoint(origin=ORIGIN, size=99, root=hashlib.sha256(b"another history").digest())
STRANGERS: Final = (FakeSigner(cose.ED25519), FakeSigner(cose.ML_DSA_87))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def foreign_note(head: Checkpoint = FOREIGN_HEAD) -> bytes:
    """Signed by both keys of the shop's log: what only a fork of it has."""
    return await sign_checkpoint(head, note=NOTE, post_quantum=signers().post_quantum)


async def lie(kind: str, shop: Shop) -> bytes:
    """What a liar shows, who has neither key of the log."""
    text, _, lines = (await foreign_note()).partition(b"\n\n")
    first, second = lines.splitlines(keepends=True)
    genuine = await shop.log.checkpoints.now()
    stranger = await sign_checkpoint(FOREIGN_HEAD, note=STRANGERS[0], post_quantum=STRANGERS[1])
    other_log = Checkpoint(origin="shop.example/SN-9/1", size=99, root=FOREIGN_HEAD.root)
    lies = {
        "nothing": b"",
        "garbage": b"\xff" * (NOTE_BYTES_MAX + 1),
        "one key, classical": text + b"\n\n" + first,
        "one key, post-quantum": text + b"\n\n" + second,
        "one key twice": text + b"\n\n" + first + first,
        "a stranger's keys": stranger,
        "one key and a stranger's": text + b"\n\n" + first + stranger.splitlines(keepends=True)[-1],
        "another log": await foreign_note(other_log),
        "a larger size above true signatures": genuine.replace(b"\n5\n", b"\n99\n"),
        "replay of a true head": genuine,
    }
    return lies[kind]


@pytest.mark.parametrize("claim", [OtherHead(size=10**18), OtherHead(size=5), NotConsistent()])
async def test_a_bare_claim_of_any_kind_stops_no_sale(shop: Shop, claim: Answer) -> None:
    liar = shop.witnesses[1]
    liar.forged_answer = claim
    follower = shop.follower()
    assert (await follower.step()).size == 5
    assert shop.quarantine.reason is None
    assert (liar.shown, list(follower.disagreeing)) == (1, ["w2.example"])


@pytest.mark.parametrize(
    "kind",
    [
        "nothing",
        "garbage",
        "one key, classical",
        "one key, post-quantum",
        "one key twice",
        "a stranger's keys",
        "one key and a stranger's",
        "another log",
        "a larger size above true signatures",
        "replay of a true head",
    ],
)
async def test_a_claim_with_false_proof_stops_no_sale_and_does_not_count(shop: Shop, kind: str) -> None:
    liar = shop.witnesses[1]
    liar.note, liar.forged_note = b"-", await lie(kind, shop)
    liar.forged_answer = OtherHead(size=99)
    await shop.log.grow(3)
    follower = shop.follower(needed=3)
    with pytest.raises(Unavailable, match="2 of 3 witnesses vouch for 8 entries"):
        await follower.step()
    assert shop.quarantine.reason is None
    assert not (shop.folder / FILE).exists()
    assert (liar.shown, list(follower.disagreeing)) == (1, ["w2.example"])


async def test_an_alarm_says_in_words_who_disagrees_and_what_to_do(shop: Shop) -> None:
    shop.witnesses[0].forged_answer = OtherHead(size=99)
    follower = shop.follower()
    assert disagreement_of(follower.disagreeing).level is Level.OK
    await follower.step()
    finding = disagreement_of(follower.disagreeing)
    assert finding.level is Level.COPING
    assert finding.sentence == (
        "w1.example says it vouched for 99 entries (this log has 5), and shows no proof"
        " (w1.example shows no checkpoint): not counted, we sell on."
    )
    assert finding.next_step
    assert b"\ntillstone_witnesses_disagreeing 1.0\n" in shop.metrics.render()


async def test_a_witness_that_disagrees_loses_the_word_that_it_gave(shop: Shop) -> None:
    await shop.follower(needed=3).step()
    shop.witnesses[0].forged_answer = NotConsistent()
    follower = shop.follower(needed=3)
    with pytest.raises(Unavailable, match=r"2 of 3 witnesses vouch for 5 entries: w1\.example says it vouched for"):
        await follower.step()
    assert await follower.newest() is None


async def test_one_that_disagrees_is_asked_more_and_more_rarely_until_it_vouches_again(shop: Shop) -> None:
    liar = shop.witnesses[0]
    liar.forged_answer = OtherHead(size=99)
    follower = shop.follower()
    for pause in (2, 4, 8):
        await follower.step()
        asked = len(liar.asked)
        shop.clock.pass_time(pause * BACK_OFF_MS_MIN - 1)
        await follower.step()
        assert len(liar.asked) == asked
        shop.clock.pass_time(1)
    liar.forged_answer = None
    await follower.step()
    assert not follower.disagreeing
    assert b"\ntillstone_witnesses_disagreeing 0.0\n" in shop.metrics.render()
    assert liar.size == 5


async def test_one_proof_is_enough_whoever_shows_it(shop: Shop) -> None:
    shop.witnesses[2].forged_answer = OtherHead(size=99)
    shop.witnesses[2].note = await foreign_note()
    with pytest.raises(Unavailable, match="quarantined"):
        await shop.follower().step()
    assert shop.quarantine.reason == (
        "w3.example shows a head that both keys of this log signed:"
        " a head of size 99 was verified outside, the log has 5"
    )
    assert (shop.folder / FILE).read_bytes() == shop.witnesses[2].note


class Disks:
    """The shop's disk, and a copy of yesterday's; the witnesses know today's."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop = shop
        self.today = folder / "today"
        self.copy = folder / "copy"

    async def fill(self) -> None:
        async with witnessed_log(self.today) as log:
            await log.grow(3)
        shutil.copytree(self.today, self.copy)
        async with witnessed_log(self.today) as log:
            await log.grow(20)
            await self.shop.follower(log).step()

    @asynccontextmanager
    async def started(
        self, disk: Path, store: EvidenceStore | None = None
    ) -> AsyncIterator[tuple[WitnessedLog, Witnesses]]:
        """A box on `disk` after its start, with its own memory of witnesses."""
        self.shop.quarantine = Quarantine()
        before, self.shop.folder = self.shop.store, disk
        self.shop.store = store or await EvidenceStore.open(disk)
        try:
            async with witnessed_log(disk) as log:
                yield log, self.shop.follower(log)
        finally:
            if store is None:
                await self.shop.store.close()
            self.shop.store = before


@pytest.fixture
async def disks(shop: Shop, tmp_path: Path) -> Disks:
    disks = Disks(shop, tmp_path)
    await disks.fill()
    return disks


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (0, "size 25 was verified outside, the log has 5"),
        (20, "another head of size 25"),
        (40, "another head of size 25"),
    ],
    ids=["restored to yesterday", "forked, as long", "forked, longer"],
)
async def test_an_old_or_forked_disk_sells_nothing_on_proof_that_stays(disks: Disks, more: int, said: str) -> None:
    shop = disks.shop
    async with disks.started(disks.copy) as (log, follower):
        if more:
            await log.grow(more, "other")
        await follower.check_stored()  # this disk alone does not tell
        with pytest.raises(Unavailable, match="quarantined"):
            await follower.step()
        assert said in (shop.quarantine.reason or "")
        proof = (disks.copy / FILE).read_bytes()
        assert proof == shop.witnesses[0].note
        assert verify_head(proof, origin=ORIGIN, keys=log.ledger.keys).size == 25
    async with disks.started(disks.copy) as (log, _):
        kept = await ForkProof(log.ledger, disks.copy).kept()
        assert f"{FILE} holds a head" in (kept or "")
        assert said in (kept or "")


async def test_a_truncated_tail_is_proven_by_what_the_box_itself_gathered(disks: Disks) -> None:
    shop = disks.shop
    for witness in shop.witnesses:
        witness.is_away = True
    async with disks.started(disks.copy, shop.store) as (log, follower):
        with pytest.raises(Unavailable, match="quarantined"):
            await follower.check_stored()
        assert "witnesses vouched for another log" in (shop.quarantine.reason or "")
        assert verify_head((disks.copy / FILE).read_bytes(), origin=ORIGIN, keys=log.ledger.keys).size == 25


async def test_the_right_disk_back_in_place_sells_though_the_proof_lies_there(disks: Disks) -> None:
    (disks.today / FILE).write_bytes(disks.shop.witnesses[0].note)
    async with disks.started(disks.today) as (log, _):
        assert await ForkProof(log.ledger, disks.today).kept() is None


@pytest.mark.parametrize("kind", ["nothing", "garbage", "one key, classical", "another log"])
async def test_a_file_that_proves_nothing_stops_nothing(shop: Shop, kind: str) -> None:
    (shop.folder / FILE).write_bytes(await lie(kind, shop))
    assert await ForkProof(shop.log.ledger, shop.folder).kept() is None


async def test_a_proof_that_cannot_be_written_still_stops_the_sales(shop: Shop) -> None:
    (shop.folder / FILE).mkdir()
    shop.witnesses[0].forged_answer = NotConsistent()
    shop.witnesses[0].note = await foreign_note()
    with pytest.raises(Unavailable, match="quarantined"):
        await shop.follower().step()
    assert shop.quarantine.reason is not None

"""A real box and a real witness: sales never wait, receipts are upgraded, a rolled-back log sells nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import pytest

from appliance.evidence.cosignature import WitnessPolicy, require_quorum
from appliance.ledger.merkle import leaf_hash
from appliance.ledger.tlog import read_proof, verify_proof
from appliance.ledger.trust import load_trust
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, Till, paired_till, verified
from tests.postgres import running_postgres
from tests.upstream import NAME, WitnessProcess

WAIT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    box: RunningBox
    till: Till
    witness: WitnessProcess
    dsn: str

    def until(self, path: str, is_enough: Callable[[int, bytes], bool]) -> bytes:
        ends_at = time.monotonic() + WAIT_S
        while not is_enough(*(got := self.box.public(path))):
            assert time.monotonic() < ends_at, (got, self.box.said())
            time.sleep(0.05)
        return got[1]

    def policy(self) -> WitnessPolicy:
        return WitnessPolicy(keys=self.witness.keys, needed=1)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("shop")
    with running_postgres() as postgres, running_box(folder, starts=False) as box:
        dsn = postgres.new_database()
        witness = WitnessProcess(folder / "witness", dsn, trust=box.box.trust.read_bytes())
        try:
            named = " ".join((witness.url, *(key.vkey for key in witness.keys)))
            box._more_settings = f'\n[witnesses]\nnamed = ["{named}"]\nneeded = 1\nevery_ms = 1000\n'
            box.start()
            yield Rig(box=box, till=paired_till(box, folder, "till-1"), witness=witness, dsn=dsn)
        finally:
            witness.kill()


def test_a_receipt_is_upgraded_to_one_that_others_have_seen(rig: Rig) -> None:
    reply = rig.till.ask("payment", CASH)
    assert reply.status == 200
    (entry,) = verified(rig.box, reply).entries
    proof = read_proof(rig.until(f"/proof/witnessed/{entry.seq}", lambda status, _: status == 200))
    trust = load_trust(rig.box.box.trust.read_bytes())
    (statement,) = trust.logs.values()
    checkpoint = verify_proof(
        proof,
        leaf_hash(entry.encoded),
        origin=statement.origin,
        note_key=statement.note_key,
        post_quantum=statement.keys.post_quantum,
    )
    assert checkpoint.size > entry.seq
    lines = proof.checkpoint.partition(b"\n\n")[2]
    assert len(require_quorum(checkpoint.text(), lines, rig.policy())) == 2
    assert rig.box.public("/checkpoint/witnessed")[0] == 200


def test_an_entry_that_does_not_exist_yet_is_asked_for_later(rig: Rig) -> None:
    status, body = rig.box.public("/proof/witnessed/999999")
    assert (status, json.loads(body)["code"]) == (503, "witness_pending")


def test_sales_go_on_while_the_witness_is_away_and_the_lag_is_shown(rig: Rig) -> None:
    rig.witness.kill()
    try:
        assert rig.till.ask("payment", CASH).status == 200

        def is_shown(_status: int, body: bytes) -> bool:
            follower: dict[str, Any] = json.loads(body)["followers"][0]
            return int(follower["failures"]) > 0 and int(follower["lag_entries"]) > 0

        rig.until("/integrity", is_shown)
        metrics = rig.box.public("/metrics")[1].decode()
        assert 'tillstone_follower_failures_total{follower="witness"}' in metrics
    finally:
        rig.witness.start()


def test_a_witness_that_knows_the_log_longer_stops_the_sales_and_says_why(rig: Rig) -> None:
    async def know_more() -> None:
        connection = await asyncpg.connect(rig.dsn)
        await connection.execute("UPDATE witness_heads SET size = 424242")
        await connection.close()

    # As if this disk had been restored to yesterday: the witness has vouched for a longer log of this name.
    rig.box.kill()
    asyncio.run(know_more())
    rig.box.start()
    body = rig.until("/health", lambda status, _: status == 503)
    assert f"{NAME} vouched for 424242 entries" in json.loads(body)["sentence"]
    reply = rig.till.ask("payment", CASH)
    assert (reply.status, reply.code) == (503, "quarantined")

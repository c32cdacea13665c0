"""A real box and a real witness: sales never wait, receipts are upgraded, a rolled-back log sells nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from appliance.anchor.fork_proof import FILE
from appliance.evidence.cosignature import WitnessPolicy, require_quorum
from appliance.ledger.checkpoint import verify_head
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

    def sql(self, command: str) -> list[Any]:
        """What the witness's database answers."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return [row[0] for row in await connection.fetch(command)]
            finally:
                await connection.close()

        return asyncio.run(run())

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


def test_a_witness_that_only_claims_a_fork_stops_no_sale_and_is_named(rig: Rig) -> None:
    (size,) = rig.sql("SELECT size FROM witness_heads")
    rig.sql("UPDATE witness_heads SET size = 424242")
    rig.box.kill()
    rig.box.start()

    def is_told(status: int, body: bytes) -> bool:
        return status == 200 and f"{NAME} says it vouched for 424242 entries" in json.loads(body)["sentence"]

    rig.until("/health", is_told)
    assert "tillstone_witnesses_disagreeing 1.0" in rig.box.public("/metrics")[1].decode()
    assert rig.till.ask("payment", CASH).status == 200
    rig.sql(f"UPDATE witness_heads SET size = {size}")
    rig.until("/health", lambda _status, body: "says it vouched" not in json.loads(body)["sentence"])


def test_a_disk_restored_to_yesterday_sells_nothing_on_proof_that_outlives_a_restart(rig: Rig, tmp_path: Path) -> None:
    data = rig.box.box.data
    # Within one epoch, so that the TPM's counter does not notice.
    os.kill(rig.box.pid, signal.SIGSTOP)
    shutil.copytree(data, tmp_path / "yesterday", ignore=shutil.ignore_patterns("*.sock"))
    os.kill(rig.box.pid, signal.SIGCONT)
    reply = rig.till.ask("payment", CASH)
    rig.until(f"/proof/witnessed/{reply.body['seq']}", lambda status, _: status == 200)
    rig.box.kill()
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "yesterday", data)
    rig.box.start()
    body = rig.until("/health", lambda status, _: status == 503)
    assert f"{NAME} shows a head that both keys of this log signed" in json.loads(body)["sentence"]
    proof = load_trust(rig.box.box.trust.read_bytes())
    (keys,), note = proof.keys.values(), (data / FILE).read_bytes()
    assert verify_head(note, origin=rig.box.audience, keys=keys).size > reply.body["seq"]
    rig.box.kill()
    rig.box._more_settings = ""
    rig.box.start()  # without a witness
    refused = rig.till.ask("payment", CASH)
    assert (refused.status, refused.code) == (503, "quarantined")
    assert f"{FILE} holds a head" in json.loads(rig.box.public("/health")[1])["sentence"]

"""A restore asks a real witness: what came after the backup is counted, named, and lost only by the operator's word."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.ledger.trust import load_trust
from provisioning.restore.restore import LAST_HEAD
from provisioning.succession import REQUEST
from tests.integration.box import START_S_MAX, RunningBox, running_box
from tests.integration.test_succession import command, receipt_of
from tests.integration.till import CASH, Till, paired_till
from tests.postgres import running_postgres
from tests.upstream import WitnessProcess


@dataclass(frozen=True, kw_only=True)
class Rig:
    folder: Path
    box: RunningBox
    till: Till
    witness: WitnessProcess

    def restore(self, *arguments: object, code: int = 0) -> str:
        known = ("--recovery-key", self.folder / "recovery.key", "--trust", self.box.box.trust)
        return command("restore", self.folder / "box.backup", *known, *arguments, code=code)

    def until_witnessed(self, seq: int) -> None:
        ends_at = time.monotonic() + START_S_MAX
        while self.box.public(f"/proof/witnessed/{seq}")[0] != 200:
            assert time.monotonic() < ends_at, self.box.said()
            time.sleep(0.05)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    command("owner", "recovery-key", tmp_path / "recovery.key")
    with running_postgres() as postgres, running_box(tmp_path / "shop", starts=False) as box:
        witness = WitnessProcess(tmp_path / "witness", postgres.new_database(), trust=box.box.trust.read_bytes())
        try:
            named = " ".join((witness.url, *(key.vkey for key in witness.keys)))
            box._more_settings = (
                f'\n[witnesses]\nnamed = ["{named}"]\nneeded = 1\nevery_ms = 1000\n'
                f'[backup]\nrecipient_path = "{tmp_path}/recovery.key.pub"\n'
            )
            box.start()
            yield Rig(folder=tmp_path, box=box, till=paired_till(box, tmp_path, "till-1"), witness=witness)
        finally:
            witness.kill()


def test_a_backup_older_than_the_witnessed_head_is_refused_with_the_reason(rig: Rig, tmp_path: Path) -> None:
    receipt_of(rig.till)
    command("backup", "-o", tmp_path / "box.backup", "--dir", tmp_path / "shop")
    rig.until_witnessed(rig.till.ask("payment", CASH).body["seq"])
    rig.box.power_off()
    refused = rig.restore("--check", code=2)
    assert "(backup_stale)" in refused
    missing = re.findall(r"(\d+) are missing", refused)
    assert len(missing) == 1
    assert "(backup_stale)" in rig.restore("--check", "--accept-loss", int(missing[0]) - 1, code=2)

    folder = tmp_path / "second" / "box"
    assert "(backup_stale)" in rig.restore("-C", folder, code=2)
    assert not (folder / "data").exists()
    rig.restore("-C", folder, "--accept-loss", missing[0])
    trust = load_trust((folder / "trust.json").read_bytes())
    key = rig.box.box.folder / "owner" / "owner-key"
    owner = ("--head", folder / LAST_HEAD, "--trust", folder / "trust.json", "--owner-key", key, "--yes")
    vkeys = [part for each in rig.witness.keys for part in ("--witness", each.vkey)]
    command("owner", "succeed", folder / REQUEST, *owner, *vkeys, "-o", tmp_path / "signed")
    (previous,) = [
        log.previous
        for log in load_trust((tmp_path / "signed" / "trust.json").read_bytes()).logs.values()
        if log.previous is not None
    ]
    assert previous.log_id in trust.logs
    assert "till-1" in command("succession", "begin", tmp_path / "signed", "--dir", folder)


def test_a_witness_that_is_away_leaves_the_age_unknown(rig: Rig, tmp_path: Path) -> None:
    receipt_of(rig.till)
    command("backup", "-o", tmp_path / "box.backup", "--dir", tmp_path / "shop")
    rig.witness.kill()
    assert "(backup_age_unknown)" in rig.restore("--check", code=2)
    assert "Whole and genuine" in rig.restore("--check", "--offline")

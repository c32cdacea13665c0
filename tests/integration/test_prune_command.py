"""`tillstone prune` at a real box and a real witness, whose answer has a PostgreSQL commit behind it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from provisioning.cli import main
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, Till, new_key, paired_till, verified
from tests.postgres import running_postgres
from tests.upstream import WitnessProcess

WAIT_S: Final = 30.0
HASTY: Final = ("-m", "tests.integration.hasty_box")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    box: RunningBox
    till: Till
    witness: WitnessProcess

    def prune(self, *options: str) -> int:
        return main(["prune", "--dir", str(self.box.box.data), "--keep-days", "0", *options])

    def bodies_from(self) -> int:
        """The first entry behind the genesis that is still there, but for those that always stay."""
        with closing(sqlite3.connect(f"file:{self.box.box.data / 'ledger.db'}?mode=ro", uri=True)) as connection:
            query = "SELECT min(seq) FROM entries WHERE kind IN ('sale', 'boot', 'epoch')"
            return int(connection.execute(query).fetchone()[0])


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("shop")
    with running_postgres() as postgres, running_box(folder, starts=False) as box:
        witness = WitnessProcess(folder / "witness", postgres.new_database(), trust=box.box.trust.read_bytes())
        try:
            named = " ".join((witness.url, *(key.vkey for key in witness.keys)))
            box._more_settings = f'\n[witnesses]\nnamed = ["{named}"]\nneeded = 1\nevery_ms = 1000\n'
            box.start(program=HASTY)
            till = paired_till(box, folder, "till-1")
            items = [{"key": new_key(), "payment": CASH} for _ in range(900)]
            assert till.ask("batch", {"items": items}).status == 200
            yield Rig(box=box, till=till, witness=witness)
            assert box.events("request.crashed") == []
        finally:
            witness.kill()


def test_a_log_is_pruned_once_its_snapshot_is_witnessed_also_through_a_power_cut(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box, data, trust = rig.box, str(rig.box.box.data), str(rig.box.box.trust)
    reply = rig.till.ask("payment", CASH)
    assert rig.prune("--dry-run") == 0
    assert "a snapshot is needed before entries below 512" in capsys.readouterr().out
    assert not list(box.box.data.glob("snapshot-*"))

    rig.witness.kill()
    assert rig.prune("--yes") == 1
    assert "snapshot taken" in capsys.readouterr().out
    assert rig.prune("--yes") == 1, "nobody has cosigned it"
    assert rig.bodies_from() == 1
    rig.witness.start()
    until_cosigned(rig)

    box.kill()
    monkeypatch.setenv("DIE_AFTER", "pruned")
    box.start(program=HASTY)
    assert rig.prune("--yes") == 2, "the power went"
    box.kill()
    monkeypatch.delenv("DIE_AFTER")
    assert rig.bodies_from() == 256
    box.start(program=HASTY)
    assert rig.prune("--yes") == 0
    assert rig.bodies_from() == 512

    # It sells, proves and verifies as before; what is gone is gone by name.
    key = new_key()
    assert verified(box, rig.till.ask("payment", CASH, key)).entries
    assert verified(box, reply).entries
    assert main(["ledger", "proof", "100", "--dir", data]) == 2
    assert "entry_pruned" in capsys.readouterr().err
    assert main(["ledger", "verify", "--dir", data]) == 0
    assert main(["verify", "log", data, "--trust", trust, "--json"]) == 0
    assert told(capsys)["pruned"] > 500
    assert main(["export", "log", "--dir", data, "-o", str(tmp_path / "log.bin")]) == 0
    assert main(["verify", "log", str(tmp_path / "log.bin"), "--trust", trust]) == 0
    assert rig.prune("--yes") == 1, "nothing more"
    # Started as a shop starts it, with its whole bounds.
    box.kill()
    box.start()
    assert rig.till.ask("status", {"of": key}).body["state"] == "approved"
    assert box.local.status()["level"] != "stopped"
    assert rig.prune() == 2
    assert "prune_too_young" in capsys.readouterr().err


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The last JSON value on the screen."""
    out = capsys.readouterr().out
    found: dict[str, Any] = json.loads(out[out.index("{") :])
    return found


def until_cosigned(rig: Rig) -> None:
    ends_at = time.monotonic() + WAIT_S
    while not rig.box.local.prune_plan(0)["is_cosigned"]:
        assert time.monotonic() < ends_at, rig.box.said()
        time.sleep(0.05)

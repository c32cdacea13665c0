"""A real box with a real TPM whose clock goes wrong: it counts on from what is proven, sells, and writes it down."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from appliance.crypto import cbor
from appliance.ledger.entry import Entry, decode
from provisioning.cli import main
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, paired_till

EARLIER_BOX = ("-m", "tests.integration.earlier_box")
MINUTE_MS = 60_000


def test_box_whose_battery_went_flat_sells_at_a_time_that_is_proven(tmp_path: Path) -> None:
    with running_box(tmp_path) as box:
        till = paired_till(box, tmp_path, "till-1")
        assert till.ask("payment", CASH).status == 200
        box.power_cycle()
        box.start(program=EARLIER_BOX)
        assert till.ask("payment", CASH).status == 200
        told = {finding["check"]: finding for finding in box.local.status()["findings"]}["clock"]
        assert told["level"] == "coping"
        assert "accept-clock" in told["next"]
        recorded = _entries(box)
        (doubted,) = [entry for entry in recorded if entry.kind == "clock_set"]
        assert _body(doubted)["step_ms"] < -19 * 365 * 86_400_000
        times = [entry.time_ms for entry in recorded]
        assert times == sorted(times)
        assert abs(times[-1] - time.time_ns() // 1_000_000) < 10 * MINUTE_MS
        first, second = [_body(entry) for entry in recorded if entry.kind == "clock_mark"]
        assert second["powered"] > first["powered"]
        assert second["resets"] > first["resets"]


def test_operator_accepts_the_clock(tmp_path: Path) -> None:
    with running_box(tmp_path) as box:
        assert main(["device", "accept-clock", "--dir", str(box.box.data)]) == 2  # nobody doubts it
        box.stop()
        box.start(program=EARLIER_BOX)
        assert main(["device", "accept-clock", "--dir", str(box.box.data), "--json"]) == 0
        proofs = [_body(entry)["proof"] for entry in _entries(box) if entry.kind == "clock_set"]
        assert proofs[-1] == "operator"
        assert json.loads(box.public("/health")[1])["level"] == "ok"
        box.stop()
        box.start(program=EARLIER_BOX)
        assert len([entry for entry in _entries(box) if entry.kind == "clock_set"]) == len(proofs)


def _entries(box: RunningBox) -> list[Entry]:
    with closing(sqlite3.connect(f"file:{box.box.data / 'ledger.db'}?mode=ro", uri=True)) as connection:
        return [decode(row[0]) for row in connection.execute("SELECT entry FROM entries ORDER BY seq")]


def _body(entry: Entry) -> Any:
    return cbor.decode(entry.body, size_max=65_536)

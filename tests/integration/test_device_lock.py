"""A real box that an operator locks: it sells nothing, says why, and a power cut does not open it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioning.cli import main
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, new_key, paired_till


def test_lock_stops_sales_over_a_power_cut_until_it_is_unlocked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_box(tmp_path) as box:
        till = paired_till(box, tmp_path, "till-1")
        sold = new_key()
        assert till.ask("payment", CASH, sold).status == 200
        assert main(["device", "lock", "--reason", "stocktaking", "--dir", str(box.box.data)]) == 0
        assert capsys.readouterr().out.startswith("locked since ")
        size = box.log_size()
        box.power_cycle()
        box.start()
        size += 2  # epoch and start
        for verb, body in (("payment", CASH), ("refund", {"of": sold}), ("reversal", {"of": sold})):
            refused = till.ask(verb, body)
            assert (refused.status, refused.body["code"]) == (503, "device_locked")
            assert "stocktaking" in refused.body["detail"]
        assert till.ask("status", {"of": sold}).body["state"] == "approved"
        assert box.log_size() == size
        assert _is_told(box)
        assert main(["device", "unlock", "--reason", "counted", "--json", "--dir", str(box.box.data)]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "operational"
        assert till.ask("payment", CASH).status == 200


def _is_told(box: RunningBox) -> bool:
    """Everywhere where a person or a monitor looks."""
    status, health = box.public("/health")
    metrics = box.public("/metrics")[1].decode()
    return (
        status == 503
        and json.loads(health)["state"] == "locked"
        and "Not selling. The box is locked: stocktaking." in box.local.status()["sentence"]
        and box.local.status()["device"]["lock"] == "stocktaking"
        and 'tillstone_device_state{state="locked"} 1.0' in metrics
    )

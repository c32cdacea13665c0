"""`tillstone screen` at a real box: what the owner sees and changes, and what a box without its model says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.payment.screening.trees import load_model
from provisioning.cli import main
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, Till, new_key, paired_till


def test_the_owner_sees_changes_and_is_told_why(
    box: RunningBox, till: Till, capsys: pytest.CaptureFixture[str]
) -> None:
    def screen(*words: str) -> str:
        assert main(["screen", *words, "--dir", str(box.box.data)]) == 0
        return capsys.readouterr().out

    shown = screen("show")
    assert "velocity_mode                    watch\n" in shown
    assert f"model: {load_model(None).sha256.hex()}" in shown
    assert "last 24 hours: no rule spoke" in shown

    passed = new_key()
    assert till.ask("payment", CASH, passed).status == 200
    assert ": payment passed, score " in screen("why", passed)

    assert "Changed by entry " in screen("set", "sale_ceiling_mode=refuse", "sale_ceiling_minor=1249")
    refused = new_key()
    reply = till.ask("payment", CASH, refused)
    assert (reply.status, reply.body["code"]) == (422, "sale_above_ceiling")
    assert "1249" not in json.dumps(reply.body)
    why = screen("why", refused)
    assert ": payment refused, score " in why
    assert "  sale_ceiling: 1250, limit 1249 (minor units in one sale)" in why

    shown = screen("show")
    assert "sale_ceiling_minor               1249       changed by you\n" in shown
    assert "last 24 hours: 1 refused (sale_ceiling)" in shown
    (answer,) = json.loads(screen("why", refused, "--json"))
    assert answer["reasons"] == [{"rule": "sale_ceiling", "seen": 1250, "limit": 1249}]
    assert 'tillstone_screened_total{rule="sale_ceiling",verdict="refused"} 1.0' in box.public("/metrics")[1].decode()

    assert main(["screen", "set", "sale_ceiling_minor=0", "--dir", str(box.box.data)]) == 2
    assert "threshold_invalid" in capsys.readouterr().err
    screen("set", "sale_ceiling_mode=watch")
    assert till.ask("payment", CASH, refused).status == 200  # the same request again, now that it may


def test_a_box_whose_model_cannot_be_read_sells_by_rules_and_says_so(tmp_path: Path) -> None:
    model = tmp_path / "model.json"
    model.write_text('{"version": 1}')
    settings = f'[screening]\nmodel_path = "{model}"\nsale_ceiling_mode = "refuse"\nsale_ceiling_minor = 1\n'
    with running_box(tmp_path / "shop", settings=settings) as box:
        status = box.local.status()
        (finding,) = [each for each in status["findings"] if each["check"] == "screening"]
        assert (status["level"], finding["level"]) == ("coping", "coping")
        assert "by rules only" in finding["sentence"]
        assert box.local.screening()["model"] is None
        till = paired_till(box, tmp_path, "till-1")
        assert till.ask("payment", CASH, new_key()).body["code"] == "sale_above_ceiling"

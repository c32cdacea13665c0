"""`tillstone reconcile` at a real box with the Stripe twin beside it: exit codes, words, files, an accepted break."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from provisioning.cli import main
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CARD, Till, new_key


def test_the_running_day_is_compared_and_says_what_to_do_about_each_break(
    card_box: RunningBox, card_till: Till, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("--dir", str(card_box.box.data))

    def told(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["reconcile", *words, *here])
        output = capsys.readouterr()
        return code, output.out + output.err

    assert told()[0] == 2, "nobody paid by card yet: there is nothing to compare"
    key = new_key()
    assert card_till.ask("payment", CARD, key).status in (200, 202)
    assert card_till.until_final(key, seconds_max=30).body["state"] == "approved"

    code, text = told()
    assert code == 0
    assert "Nothing is open." in text
    assert " ".join(text.split()).count("gross 9.90 fees -0.40 net 9.50") == 1

    assert card_box.twin is not None
    (charge,) = card_box.twin.control("GET", "charges")["charges"]
    card_box.twin.control("POST", "balance", {"payment": charge["payment_intent"], "what": "disputed"})
    code, text = told("-o", str(tmp_path / "day.csv"))
    assert code == 1
    assert "missing_here dispute" in text
    assert "answer at the provider before its deadline" in text
    assert "What differs" in (tmp_path / "day.csv").read_text()
    code, text = told("-o", str(tmp_path / "day.pdf"), "--json")
    found: dict[str, Any] = json.loads(text)
    assert (code, found["open_count"]) == (1, 1)
    assert (tmp_path / "day.pdf").read_bytes().startswith(b"%PDF-1.7")

    subject = found["breaks"][0]["subject"]
    code, text = told("--accept", "missing_here", subject, "--reason", "lost")
    assert (code, "break_unknown" in text) == (2, True), "a day that has not ended opens nothing yet"
    assert told("--day", "yesterday")[0] == 2


def test_a_box_without_cards_has_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_box(tmp_path / "shop") as running:
        assert main(["reconcile", "--dir", str(running.box.data)]) == 2
        assert "statement_missing" in capsys.readouterr().err


def test_health_and_metrics_know_the_daily_look(card_box: RunningBox, capsys: pytest.CaptureFixture[str]) -> None:
    ends = time.monotonic() + 20
    while True:
        assert main(["status", "--dir", str(card_box.box.data), "--json"]) == 0
        findings = {each["check"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
        if "nothing is open" in findings["reconcile"]["sentence"]:
            break
        assert time.monotonic() < ends, findings["reconcile"]
        time.sleep(0.1)

"""A till plays its day at a real box, from float to the close, with a card payment that is known only afterwards."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from provisioning.cli import main
from provisioning.terminal.signing import Encoding
from tests.integration.box import RunningBox
from tests.integration.till import CARD, CASH, Till, new_key, verified


def test_a_day_from_float_to_close_adds_up_and_verifies(
    card_box: RunningBox, card_till: Till, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*words, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    home = ("--home", str(card_till.home.folder))
    here = ("--dir", str(card_box.box.data))
    assert told("drawer", "float", "100.00", *home)["held_minor"] == 10_000
    kept, refunded, lost = new_key(), new_key(), new_key()
    for key in (kept, refunded):
        assert card_till.ask("payment", CASH, key).body["state"] == "approved"
    assert card_till.ask("refund", {"of": refunded}).body["state"] == "refunded"
    assert told("drawer", "paid-out", "5.00", "--reason", "milk", *home)["held_minor"] == 10_750
    hide_the_next_charge(card_box)
    assert card_till.ask("payment", CARD, lost).status == 202
    assert told("drawer", "count", "107.40", *home)["difference_minor"] == -10
    cash = {
        "floats": 10_000,
        "opening": 0,
        "sales": 2_500,
        "refunds": 1_250,
        "paid_out": 500,
        "expected": 10_750,
        "counted": 10_740,
        "difference": -10,
        "left": 10_740,
    }
    assert told("report", "x", *home)["period"]["cash"] == cash
    assert told("report", "z", *home)["period"]["cash"] == cash

    files = [tmp_path / name for name in ("day.pdf", "day.csv")]
    closed = told("close-day", "-o", str(files[0]), *here)
    again = told("close-day", "-o", str(files[1]), *here)

    assert (closed["is_new"], again.get("is_new", False), again["seq"]) == (True, False, closed["seq"])
    assert closed["day"]["period"]["totals"] == {"sales": 2, "total": 2_500, "refunds": 1, "refunded": 1_250}
    assert [each["amount"] for each in closed["day"]["open"]] == [990]
    assert files[0].read_bytes().startswith(b"%PDF-1.7")
    assert "Cash,left,,107.40,EUR" in files[1].read_text()

    assert card_box.twin is not None
    card_box.twin.clear()
    assert card_till.until_final(lost, seconds_max=90).body["state"] == "approved"
    standing = told("close-day", "--dry-run", *here)["day"]
    assert [(late["day"], late["amount"], late["state"]) for late in standing["late"]] == [
        (closed["day"]["day"], 990, "confirmed")
    ]
    assert standing["period"]["totals"] == {"sales": 1, "total": 990}
    assert standing["period"]["cash"]["opening"] == 10_740
    verify_as_a_stranger(card_box, tmp_path, closed["seq"])


def hide_the_next_charge(box: RunningBox) -> None:
    """The twin charges, its answer is lost, and it tells nobody until its faults are cleared."""
    assert box.twin is not None
    box.twin.fault("drop_reply")
    box.twin.control("POST", "faults", {"fault": "rate_limited", "method": "GET", "times": 1_000_000})


def verify_as_a_stranger(box: RunningBox, folder: Path, closing_entry: int) -> None:
    log, tables = folder / "log.bin", folder / "log.sqlite"
    assert main(["export", "log", "--dir", str(box.box.data), "-o", str(log)]) == 0
    assert main(["verify", "log", str(log), "--trust", str(box.box.trust)]) == 0
    exported = ["export", "sqlite", "--log", str(log), "--trust", str(box.box.trust), "-o", str(tables)]
    assert main(exported) == 0
    with closing(sqlite3.connect(tables)) as connection:
        acts = connection.execute("SELECT act, amount_minor FROM drawer_acts ORDER BY seq").fetchall()
        assert acts == [("float", 10_000), ("paid_out", 500), ("count", 10_740)]
        days = connection.execute("SELECT seq, left_minor, open FROM closings WHERE scope = 'shop'").fetchall()
        assert days == [(closing_entry, 10_740, 1)]
        problems = connection.execute("SELECT count(*) FROM entries WHERE problem IS NOT NULL").fetchone()
        assert problems == (0,)


def test_receipt_of_an_act_and_of_a_close_verifies_offline_in_both_encodings(
    card_box: RunningBox, card_till: Till
) -> None:
    for encoding in Encoding:
        act = card_till.ask("drawer", {"act": "float", "amount_minor": 500}, encoding=encoding)
        assert [entry.kind for entry in verified(card_box, act).entries] == ["drawer_float"]
        close = card_till.ask("report", {"kind": "z", "scope": "terminal"}, encoding=encoding)
        assert [entry.kind for entry in verified(card_box, close).entries] == ["terminal_closed"]
    refused = card_till.ask("drawer", {"act": "paid_out", "amount_minor": 1_001, "reason": "milk"})
    assert (refused.status, refused.code) == (409, "drawer_short")
    closed, again = card_till.ask("report", {"kind": "z"}), card_till.ask("report", {"kind": "z"})
    assert (closed.status, again.code) == (200, "period_empty")


def test_power_cut_behind_a_close_does_not_close_the_day_again(card_box: RunningBox, card_till: Till) -> None:
    card_till.ask("payment", CASH)
    closed = card_box.local.close_day()
    card_box.kill()
    card_box.start()
    again = card_box.local.close_day()
    assert (again.is_new, again.seq, again.day) == (False, closed.seq, closed.day)

"""Owns the promise that nobody reads "nothing is open" as a word about money that was not looked at."""

from __future__ import annotations

import msgspec
import pytest

from appliance.anchor.follower import Standing
from appliance.wiring.reconciling import reconcile_finding
from provisioning.commands.reconcile import explain
from tests.unit.till.test_statement_sheet import ANSWER

PAYPAL = ("paypal",)
FINE = Standing(name="reconcile", lag_entries=0, silent_ms=0, failures=0, reason="", next_ms=1, is_late=False)


def test_health_names_who_was_not_compared() -> None:
    assert reconcile_finding(FINE, {"stripe": {}}, {}, PAYPAL).sentence.endswith("Not compared: paypal.")
    assert reconcile_finding(FINE, {"stripe": {"amount": 1}}, {}, PAYPAL).sentence.endswith("Not compared: paypal.")
    assert "Not compared" not in reconcile_finding(FINE, {"stripe": {}}, {}).sentence


def test_health_says_up_to_which_day_nothing_is_open() -> None:
    said = reconcile_finding(FINE, {"stripe": {}, "paypal": {}}, {"stripe": "2026-11-26", "paypal": None}).sentence
    assert "stripe: nothing is open up to day 2026-11-26; paypal: no day was compared yet." in said


def test_health_says_at_whom_money_differs() -> None:
    said = reconcile_finding(FINE, {"stripe": {}, "paypal": {"late": 2, "missing_here": 1}}, {}).sentence
    assert "paypal: late 2, missing here 1;" in said
    assert "stripe" not in said


def test_the_command_names_who_was_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    explain(msgspec.structs.replace(ANSWER, breaks=(), open_count=0))
    assert capsys.readouterr().out == "Nothing is open.\n"
    explain(msgspec.structs.replace(ANSWER, breaks=(), open_count=0, not_compared=PAYPAL))
    assert "Not compared: paypal." in capsys.readouterr().out


def test_what_is_on_its_way_is_told_and_nothing_of_a_day_so_far_is_offered_for_acceptance(
    capsys: pytest.CaptureFixture[str],
) -> None:
    explain(msgspec.structs.replace(ANSWER, breaks=(), open_count=0, on_its_way=1))
    assert capsys.readouterr().out.startswith("Nothing is open.\n1 movement is on the way: ")
    explain(msgspec.structs.replace(ANSWER, seq=None))
    assert "--accept" not in capsys.readouterr().out
    explain(ANSWER)
    assert "--accept" in capsys.readouterr().out

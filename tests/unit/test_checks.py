"""Health in plain words: what a person reads first holds no code of a device."""

from __future__ import annotations

from typing import Literal

import pytest

from appliance.adapters.hsm_link import HsmState
from appliance.adapters.tpm_sealer import SealerState
from appliance.device.health import Level
from appliance.ledger.head import SigningLag
from appliance.model.limits import HOUR_MS
from appliance.model.offline import Exposure
from appliance.wiring.checks import LATE_MS, signing_finding, tpm_finding
from appliance.wiring.escrow import escrow_finding
from appliance.wiring.offline import exposure_finding
from appliance.wiring.till import checked_finding
from provisioning.commands.status import show

RAW = "C_Initialize: 0x5"


@pytest.mark.parametrize(
    ("kind", "entries", "level", "sentence"),
    [
        ("degraded", 0, Level.COPING, "The HSM does not answer; no entry waits for a signature."),
        ("degraded", 1, Level.COPING, "The HSM does not answer; 1 entry waits for a signature."),
        ("away", 2, Level.STOPPED, "The HSM refused the PIN or a key; 2 entries wait for a signature."),
    ],
)
def test_a_lost_hsm_is_told_without_its_codes(
    kind: Literal["degraded", "away"], entries: int, level: Level, sentence: str
) -> None:
    finding = signing_finding(HsmState(kind=kind, reason=RAW), SigningLag(entries=entries, age_ms=9))
    assert (finding.level, finding.sentence) == (level, sentence)
    assert RAW in finding.next_step


def test_late_signatures_of_a_token_that_answers_are_told_after_five_seconds() -> None:
    well = HsmState(kind="ok", reason="")
    assert signing_finding(well, SigningLag(entries=3, age_ms=LATE_MS - 1)).level is Level.OK
    assert signing_finding(well, SigningLag(entries=3, age_ms=LATE_MS)).sentence.startswith("Signatures are late; 3")


@pytest.mark.parametrize(
    ("kind", "words"), [("away", "The TPM does not answer;"), ("degraded", "The TPM answers, but refuses to work;")]
)
def test_a_lost_tpm_never_stops_sales(kind: Literal["degraded", "away"], words: str) -> None:
    finding = tpm_finding(SealerState(kind=kind, reason="tpm_away: tcti:IO failure"))
    assert finding.level is Level.COPING
    assert finding.sentence.startswith(words)
    assert "tcti" not in finding.sentence
    assert "tcti" in finding.next_step


@pytest.mark.parametrize(
    ("exposure", "level", "words"),
    [
        (Exposure(reserved_minor=900), Level.OK, "No card waits"),
        (Exposure(accepted_minor=900, accepted_count=1, oldest_ms=0), Level.OK, "1 card, 9.00 EUR, accepted offline"),
        (Exposure(accepted_minor=900, accepted_count=2, oldest_ms=-HOUR_MS), Level.COPING, "2 cards, 9.00 EUR,"),
    ],
)
def test_what_hangs_on_banks_is_told_and_alarms_once_it_is_too_old(
    exposure: Exposure, level: Level, words: str
) -> None:
    finding = exposure_finding(exposure, currency="EUR", age_hours_max=24, now_ms=24 * HOUR_MS - 1)
    assert finding.level is level
    assert finding.sentence.startswith(words)
    assert ("by its bank;" in finding.sentence) == (exposure.accepted_count == 1)


def test_what_is_being_checked_and_what_a_lost_box_leaves_is_told() -> None:
    assert checked_finding(2).sentence.endswith("being checked: 2.")
    assert checked_finding(0).sentence == "No payment or refund is being checked."
    assert escrow_finding(is_set_up=True).sentence != escrow_finding(is_set_up=False).sentence


def test_a_long_sentence_goes_on_below_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    finding = {"check": "reconcile", "level": "ok", "sentence": "word " * 20, "next": "step " * 10}
    show({"level": "ok", "sentence": "Selling.", "findings": [finding]})
    first, *lines = capsys.readouterr().out.splitlines()
    assert (first, lines[0].split()[:2]) == ("✓ Selling.", ["✓", "reconcile"])
    assert len(lines) > 4
    assert all(line.startswith(" " * 19) for line in lines[1:])

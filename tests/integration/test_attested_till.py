"""A till at a real box: it sells after a proof, and sends nothing to a box that proves too little."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from appliance.crypto.owner import OwnerKey
from appliance.model.errors import Unavailable
from appliance.runtime.clock import SystemClock
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.cli import main
from provisioning.owner.statements import sign
from provisioning.terminal.client import open_terminal
from tests.fakes.attested import RELEASE
from tests.integration.box import RunningBox
from tests.integration.till import Till


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pay` keeps its receipt in build/ below the folder it runs in."""
    monkeypatch.chdir(tmp_path)


def test_till_sells_after_a_proof_and_sends_nothing_without_one(
    box: RunningBox, till: Till, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(till.home.folder)
    assert told(capsys, "terminal", "attested", home)["demands"] is True
    assert told(capsys, "pay", "--home", home)["state"] == "approved"
    first = till.home.attesting()
    assert first is not None
    assert first.believed is not None
    assert told(capsys, "pay", "--home", home)["state"] == "approved"
    assert till.home.attesting() == first, "within the hour nothing is asked again"
    assert told(capsys, "pay", "--home", home, "--attested")["state"] == "approved"
    assert till.home.attesting() != first

    key = OwnerKey.load(box.box.folder / "owner" / "owner-key", None)
    release = tmp_path / "release.cbor"
    release.write_bytes(sign(key, RELEASE).file)
    assert told(capsys, "terminal", "attested", home, "--release", str(release))["releases"] == [RELEASE.image]
    size = box.log_size()
    assert main(["pay", "--home", home]) == 2
    assert "release_unknown" in capsys.readouterr().err
    assert box.log_size() == size, "nothing of the sale was sent"
    assert told(capsys, "terminal", "attested", home, "--off")["demands"] is False
    assert told(capsys, "pay", "--home", home)["state"] == "approved"
    assert main(["terminal", "attested", home, "--release", str(box.box.attestation)]) == 2
    assert main(["terminal", "attested", home, "--max-age", "-1"]) == 2
    assert till.home.attesting() is None


def test_tpm_that_is_away_stops_only_who_demands_a_proof(
    card_box: RunningBox, card_till: Till, capsys: pytest.CaptureFixture[str]
) -> None:
    card_box.lose_tpm()
    home = str(card_till.home.folder)
    assert told(capsys, "pay", "--home", home)["state"] == "approved"
    told(capsys, "terminal", "attested", home)
    size = card_box.log_size()

    async def sell() -> None:
        async with open_terminal(card_till.home, clock=SystemClock()) as client:
            body = PaymentBody(currency="EUR", amount_minor=100, tenders=(TenderBody(kind="cash", amount_minor=100),))
            await client.payment(body, key=client.new_key(), deadline=client.deadline(4_000))

    with pytest.raises(Unavailable) as trouble:
        asyncio.run(sell())
    assert trouble.value.code == "tpm_away"
    assert card_box.log_size() == size

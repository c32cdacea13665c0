"""Followers that cannot run are not silent: health says that nobody outside is asked."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from unittest.mock import Mock

import pytest

from appliance.anchor.store import EvidenceStore
from appliance.config.describe import describe
from appliance.config.load import load
from appliance.device.health import Level
from appliance.ledger.archive import Archive
from appliance.ledger.ledger import Ledger
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.wiring.followers import Followers, Outside
from tests.fakes.clock import FakeClock
from tests.unit.config.test_load import write

NAMED = 'named = ["https://w.example w.example+00000000+BA=="]'


@pytest.mark.parametrize(("more", "expected"), [("", []), (NAMED, [("checkpoints", Level.COPING)])])
def test_a_log_without_notes_says_that_its_followers_do_not_run(
    tmp_path: Path, more: str, expected: list[tuple[str, Level]]
) -> None:
    clock = FakeClock()
    outside = Outside(store=cast(EvidenceStore, None), direct=Mock(), through_proxy=Mock(), blocks=None, node=None)
    followers = Followers(
        settings=load(write(tmp_path, describe().replace("[witnesses]", f"[witnesses]\n{more}"))),
        outside=outside,
        ledger=cast(Ledger, None),
        archive=cast(Archive, None),
        store_key=bytes(32),
        checkpoints=None,
        quarantine=lambda _reason: None,
        clock=clock,
        metrics=Metrics(),
        log=Log(sink=lambda _line: None, clock=clock),
    )
    assert [(finding.check, finding.level) for finding in (check() for check in followers.checks)] == expected

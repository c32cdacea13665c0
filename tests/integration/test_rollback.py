"""A tail cut off, another TPM, an older TPM, a copy of the whole box: each is caught, sells nothing, says why.

A disk of yesterday is `test_boot.py`'s, one of an hour ago `test_shown_head.py`'s.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.ledger.database import database_file
from provisioning.token import write_softhsm_configuration
from provisioning.verify.fork_check import check_fork
from tests.integration.box import RunningBox, refused_with, running_box
from tests.integration.test_boot import assert_quarantined
from tests.integration.test_shown_head import shown
from tests.integration.till import CASH, Till, paired_till

NO_SOCKETS = shutil.ignore_patterns("*.sock", "socket*")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RunningBox]:
    with running_box(tmp_path) as running:
        yield running


def reason(box: RunningBox) -> str:
    sentence: str = box.local.status()["sentence"]
    return sentence


@pytest.mark.parametrize("fixes_head", [False, True])
def test_tail_cut_off_by_hand_stops_the_start(box: RunningBox, tmp_path: Path, fixes_head: bool) -> None:
    till = paired_till(box, tmp_path, "till-1")
    till.ask("payment", CASH)
    box.stop()
    with closing(sqlite3.connect(database_file(box.box.data))) as connection, connection:
        connection.execute("DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)")
        if fixes_head:
            connection.execute("UPDATE head SET size = size - 1")
    assert refused_with(box) == "head_mismatch"


def test_another_tpm_gives_no_pin(box: RunningBox, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with running_box(tmp_path / "other", starts=False) as other:
        stolen = other.box.tpm
        other.power_off()
        box.stop()
        box.power_off()
        shutil.rmtree(box.box.tpm)
        shutil.copytree(stolen, box.box.tpm, ignore=NO_SOCKETS)
    box.power_cycle()
    assert refused_with(box) == "tpm_foreign"


def test_tpm_put_back_to_yesterday_is_another_log_s_counter(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")
    box.stop()
    box.power_off()
    shutil.copytree(box.box.tpm, tmp_path / "tpm", ignore=NO_SOCKETS)
    for _ in range(2):
        box.power_cycle()
        box.start()
        box.stop()
        box.power_off()
    shutil.rmtree(box.box.tpm)
    shutil.copytree(tmp_path / "tpm", box.box.tpm)
    box.power_cycle()
    box.start()
    assert_quarantined(box, till)
    assert "the counter is not this log's" in reason(box)


def test_copy_of_the_whole_box_is_caught_by_a_till_and_proven_by_two_receipts(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")
    till.ask("payment", CASH)
    box.stop()
    box.power_off()
    (tmp_path / "copy").mkdir()
    shutil.copytree(box.box.folder, tmp_path / "copy" / "box", ignore=NO_SOCKETS)
    write_softhsm_configuration(tmp_path / "copy" / "box" / "token")
    box.power_cycle()
    box.start()
    ours = till.ask("payment", CASH)
    with running_box(tmp_path / "copy") as copy:
        there = Till(copy, "till-1", till.key)
        theirs = there.ask("payment", CASH)  # a till that has seen nothing else cannot know
        report = check_fork(ours.body["receipt"], theirs.body["receipt"], box.box.trust.read_bytes())
        assert (report.ok, report.facts["seq"]) == (True, ours.body["seq"])
        assert there.ask("head", shown(box, ours)).code == "quarantined"
        assert_quarantined(copy, there)
        assert "was verified outside" in reason(copy)
    assert till.ask("payment", CASH).status == 200, "the first box sells on"

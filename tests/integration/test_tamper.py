"""Somebody opens the case of a real box: it locks; by policy its keys are gone, and it never sells again."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.device.retirement import mark_retired
from appliance.model.errors import Rejected, Unavailable
from tests.integration.box import RunningBox, StartFailed, refused_with, running_box
from tests.integration.till import CASH, paired_till
from tests.until import until_now


def contact_in(folder: Path, *, zeroise: bool = False) -> tuple[Path, str]:
    """The file of the contact, closed, and the settings that watch it."""
    file = folder / "intrusion0_alarm"
    file.write_text("0\n")
    return file, f'[tamper]\nline = "file:{file}"\nzeroise = {str(zeroise).lower()}\n'


def test_opened_case_locks_over_power_cuts_until_it_is_closed_and_unlocked(tmp_path: Path) -> None:
    file, settings = contact_in(tmp_path)
    with running_box(tmp_path, settings=settings) as box:
        till = paired_till(box, tmp_path, "till-1")
        file.write_text("1\n")
        until_now("the lock", lambda: box.local.device()["state"] == "locked")
        refused = till.ask("payment", CASH)
        assert (refused.status, refused.code) == (503, "device_locked")
        assert "the case was opened" in refused.body["detail"]
        box.power_cycle()
        box.start()
        assert box.local.device()["lock"] == "the case was opened"
        box.local.unlock_device("it was the engineer")
        assert till.ask("payment", CASH).status == 200
        assert file.read_text() == "0\n"


def test_case_that_was_opened_while_the_box_was_off_locks_before_the_first_sale(tmp_path: Path) -> None:
    file, settings = contact_in(tmp_path)
    with running_box(tmp_path, settings=settings) as box:
        till = paired_till(box, tmp_path, "till-1")
        box.power_off()
        file.write_text("1\n")
        box.power_cycle()
        box.start()
        assert till.ask("payment", CASH).code == "device_locked"
        file.unlink()
        with pytest.raises(Unavailable, match="tamper_unreadable"):
            box.local.unlock_device("nobody looked")
        assert box.local.device()["state"] == "locked"


def test_policy_destroys_the_keys_and_no_start_brings_them_back(tmp_path: Path) -> None:
    file, settings = contact_in(tmp_path, zeroise=True)
    with running_box(tmp_path, has_cards=True, settings=settings) as box:
        paired_till(box, tmp_path, "till-1")
        key_file = box.twin.key_file if box.twin is not None else tmp_path
        file.write_text("1\n")
        until_now("the end of the keys", lambda: bool(box.events("device.zeroised")))
        (line,) = box.events("device.zeroised")
        assert (line["is_proven"], line["failures"]) == (True, "")
        assert line["objects"] > 0
        assert line["tpm"].startswith("cleared")
        box.kill()
        assert _objects_left(box) == 0
        for secret in (key_file, box.door.key, box.box.folder / "ml-dsa.envelope", box.box.data / "store-key.wrapped"):
            assert set(secret.read_bytes()) == {0}
        assert refused_with(box) == "box_retired"
        assert any(event["state"] == "retired" for event in box.events("state.changed"))


def test_start_behind_the_mark_of_a_retirement_finishes_it(tmp_path: Path) -> None:
    with running_box(tmp_path) as box:
        assert _objects_left(box) > 0
        box.power_cycle()  # between the mark and the first key
        mark_retired(box.box.data, "a test said so")
        assert refused_with(box) == "box_retired"
        assert box.events("device.zeroised")[-1]["is_proven"]
        assert _objects_left(box) == 0
        with pytest.raises(StartFailed, match="box_retired"):  # the PIN is gone by now
            box.start()


def test_unlocking_a_box_that_is_not_locked_is_refused(tmp_path: Path) -> None:
    with running_box(tmp_path) as box, pytest.raises(Rejected, match="device_not_locked"):
        box.local.unlock_device("why not")


def _objects_left(box: RunningBox) -> int:
    """Files of objects in SoftHSM's store; the token's own record does not count."""
    return sum(path.name != "token.object" for path in (box.box.token / "store").rglob("*.object"))

"""The spool: what the installer is asked for is whole, a full disk has a name, and a damaged report says nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.adapters.spool import SpoolFolder
from appliance.model.errors import Unavailable

ASKED = bytes(16)


class FullSpool(SpoolFolder):
    """Its disk is full."""

    def begin(self) -> Callable[[bytes], None]:
        take = super().begin()
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, self._incoming)
        os.close(full)
        return take


def spool(folder: Path, kind: type[SpoolFolder] = SpoolFolder) -> SpoolFolder:
    return kind(folder / "update", folder / "report.json")


def test_full_disk_is_a_refusal_by_name(tmp_path: Path) -> None:
    take = spool(tmp_path, FullSpool).begin()
    with pytest.raises(Unavailable) as refusal:
        take(b"content")
    assert refusal.value.code == "update_no_room"


def test_nothing_is_asked_for_that_is_not_whole(tmp_path: Path) -> None:
    kept = spool(tmp_path)
    kept.begin()(b"half")
    assert kept.ask(ASKED) is False
    assert {path.name for path in (tmp_path / "update").iterdir()} == {"incoming"}
    kept.keep()
    assert kept.ask(ASKED) is True
    assert {path.name for path in (tmp_path / "update").iterdir()} == {"request", "update"}


def test_what_is_asked_again_is_not_written_again(tmp_path: Path) -> None:
    kept = spool(tmp_path)
    kept.begin()(b"whole")
    kept.keep()
    kept.ask(ASKED)
    before = (tmp_path / "update/request").stat()
    kept.ask(ASKED)
    assert (tmp_path / "update/request").stat() == before


@pytest.mark.parametrize("content", [b"", b"{", b'{"state":"refused"}', b'{"asked":"a","state":"eaten","boot":"b"}'])
def test_damaged_report_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    assert spool(tmp_path).report() is None


def test_a_note_is_short_and_goes_with_the_update(tmp_path: Path) -> None:
    kept = spool(tmp_path)
    kept.begin()
    kept.note("signing_down: " + "x" * 1_000)
    assert kept.noted().startswith("signing_down: x")
    assert len(kept.noted()) == 500
    kept.clear()
    assert kept.noted() == ""
    assert list((tmp_path / "update").iterdir()) == []

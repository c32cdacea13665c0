"""Owns the promises of the rig's report: what failed is on the page and in the exit, a slow machine is no failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.rig.box import BoxFailed
from tests.rig.report import FORMAT, Report, StageFailed


def made() -> Report:
    report = Report(form="short", accelerator="emulation")
    with report.stage("first") as found:
        found.append("four receipts")
    return report


def test_what_held_is_on_the_page_with_what_was_found(tmp_path: Path) -> None:
    report = made()
    report.number("image", 248.2, "MB", 300)
    report.write(tmp_path)
    assert report.is_ok
    page, content = (tmp_path / "report.md").read_text(), json.loads((tmp_path / "report.json").read_text())
    assert "everything held" in page
    assert "four receipts" in page
    assert (content["format"], content["is_ok"]) == (FORMAT, True)
    assert content["numbers"][0] | {"value": 248.2, "limit": 300, "holds": True} == content["numbers"][0]


def test_stage_that_failed_ends_the_story_and_says_why(tmp_path: Path) -> None:
    report = made()
    with pytest.raises(StageFailed), report.stage("second"):
        raise BoxFailed("no till sold | within 900 s")
    report.write(tmp_path)
    assert not report.is_ok
    page = (tmp_path / "report.md").read_text()
    assert "FAILED" in page.splitlines()[0]
    assert r"BoxFailed: no till sold \| within 900 s" in page


def test_bug_of_the_rig_itself_is_no_finding_about_the_box() -> None:
    report = made()
    with pytest.raises(KeyError), report.stage("second"):
        raise KeyError("told")
    assert [stage.name for stage in report.stages] == ["first"]


@pytest.mark.parametrize(("of_machine", "is_ok"), [(False, False), (True, True)])
def test_number_over_its_limit_fails_unless_it_is_a_time_of_this_machine(of_machine: bool, is_ok: bool) -> None:
    report = made()
    report.number("restart", 9.0, "s", 3.0, of_machine=of_machine)
    assert report.is_ok is is_ok
    assert "over" in report.page().lower()

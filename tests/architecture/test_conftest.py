"""Owns the proof that `tests/conftest.py` bites: a blocked loop fails, an unlawful skip in CI fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from blockbuster import BlockingError

from appliance.model import invariants
from tests.conftest import may_skip, refuse_skip


def sleep_in_our_code() -> None:
    """Sleep with a frame of the appliance on the stack, as a careless module would."""
    source = compile("import time\ntime.sleep(0)", invariants.__file__, "exec")
    exec(source, {})


async def test_our_code_blocking_the_event_loop_fails() -> None:
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        sleep_in_our_code()


async def test_a_test_may_read_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("x")
    assert (tmp_path / "note").read_text() == "x"


def test_our_code_may_block_its_own_thread() -> None:
    sleep_in_our_code()


@pytest.mark.parametrize(
    ("reason", "lawful"),
    [
        ("optional: no liboqs on this machine", True),
        ("../shared/data/no_such_file.gz is absent", True),
        ("softhsm2-util is missing", False),
        ("", False),
    ],
)
def test_only_optional_parts_and_absent_shared_files_may_be_skipped(reason: str, lawful: bool) -> None:
    assert may_skip(reason) is lawful


@pytest.mark.parametrize(("ci", "outcome"), [("true", "failed"), ("", "skipped")])
def test_a_skipped_required_part_fails_in_ci_only(monkeypatch: pytest.MonkeyPatch, ci: str, outcome: str) -> None:
    monkeypatch.setenv("CI", ci)
    report = pytest.CollectReport("tests/x.py", "skipped", ("tests/x.py", 1, "Skipped: softhsm2-util is missing"), [])
    refuse_skip(report)
    assert report.outcome == outcome

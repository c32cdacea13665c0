"""Skipping a stage of a payment is a type error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.architecture.sources import PROJECT

WRONG_ORDER = PROJECT / "tests" / "architecture" / "wrong_order.py"
IGNORE = re.compile(r"  # type: ignore\[([a-z,-]+)\].*$")
FOUND = re.compile(r"^[^:\n]*wrong_order\.py:(\d+): error: .*\[([a-z-]+)\]$", re.MULTILINE)


def test_each_skipped_stage_is_exactly_one_type_error(tmp_path: Path) -> None:
    lines = WRONG_ORDER.read_text().splitlines()
    expected = {
        (str(number), code)
        for number, line in enumerate(lines, start=1)
        if (ignored := IGNORE.search(line)) is not None
        for code in ignored[1].split(",")
    }
    bare = tmp_path / "wrong_order.py"
    bare.write_text("\n".join(IGNORE.sub("", line) for line in lines) + "\n")

    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", str(bare)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert set(FOUND.findall(ended.stdout)) == expected, ended.stdout + ended.stderr
    assert len(expected) >= 9

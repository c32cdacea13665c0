"""Owns one promise: the benchmark runs and leaves a file that other programs can read. No figure is judged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from provisioning.box import BoxFailed, find_module
from provisioning.swtpm import missing_programs
from tests.bench.figures import GOALS, Figure

PROJECT = Path(__file__).resolve().parents[2]


def test_bench_leaves_a_readable_figure_with_its_goal_and_its_limit(tmp_path: Path) -> None:
    if missing := [*missing_programs(), *([] if shutil.which("softhsm2-util") else ["softhsm2-util"])]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    try:
        find_module()
    except BoxFailed as absent:
        pytest.skip(str(absent))
    output = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--quick", "--only", "ledger_append", "--output", str(output)]
    made = subprocess.run(command, cwd=PROJECT, env=os.environ, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    (figure,) = msgspec.json.decode(output.read_bytes(), type=list[Figure], strict=True)
    assert (figure.name, figure.unit, figure.goal) == ("ledger_append", "entries/s", GOALS["ledger_append"])
    assert figure.value > 0
    assert figure.limit is not None
    assert figure.compared_with is not None

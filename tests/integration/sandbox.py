"""A sandbox for tests of its commands. Holds no test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provisioning.box import find_module
from provisioning.sandbox.background import sandbox_for_a_while
from provisioning.sandbox.layout import SandboxFolder
from provisioning.swtpm import missing_programs
from provisioning.verify.receipt_check import check_receipt

PROJECT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 120.0


def tillstone(folder: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "provisioning.cli", *words, "--dir", str(folder)],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
        cwd=cwd or folder.parent,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


def require_proven(folder: Path, answer: dict[str, Any]) -> None:
    """The receipt that `pay` left verifies with the trust file beside it, and is the one of `answer`."""
    build = folder.parent / "build"
    report = check_receipt((build / "receipt.cbor").read_bytes(), (build / "trust.json").read_bytes())
    assert report.ok, f"{answer['state']}: {report.steps[-1].detail}"
    assert report.entries[-1]["seq"] == answer["seq"]
    assert all(answer["key"] in said for said in report.sentences)


def stopped_sandbox(parent: Path) -> Path:
    """A sandbox that was opened and stopped once; skips where a program is missing."""
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}")
    find_module()
    folder = parent / "sandbox"
    with sandbox_for_a_while(SandboxFolder.at(folder), "--ports-from", "0"):
        pass
    return folder

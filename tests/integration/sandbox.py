"""A sandbox for tests of its commands. Holds no test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provisioning.box import find_module
from provisioning.sandbox.background import sandbox_for_a_while
from provisioning.sandbox.layout import SandboxFolder
from provisioning.swtpm import missing_programs

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


def stopped_sandbox(parent: Path) -> Path:
    """A sandbox that was opened and stopped once; skips where a program is missing."""
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}")
    find_module()
    folder = parent / "sandbox"
    with sandbox_for_a_while(SandboxFolder.at(folder), "--ports-from", "0"):
        pass
    return folder

"""The Python packages of the image, downloaded for its Python. Owns that they are the locked ones."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from image.definition import PROJECT, locked_wheels
from image.tools import run_program

_PYTHON: Final = "3.13"  # Debian 13's
_GLIBC_MINOR_MAX: Final = 41  # the same
# Published as source only: compiled with the tools' compiler.
_FROM_SOURCE: Final = ("tpm2-pytss",)


def download_wheels(folder: Path) -> None:
    """Every locked package for the image's Python, through the machine's own pip configuration, hashes checked."""
    parts = locked_wheels()
    run, build = folder / "run.txt", folder / "build.txt"
    run.write_text("\n".join(parts) + "\n")
    shutil.copy(PROJECT / "requirements" / "build.txt", build)
    binary, source = folder / "binary.txt", folder / "source.txt"
    binary.write_text("\n".join(part for part in parts if part.split("==")[0] not in _FROM_SOURCE))
    source.write_text("\n".join(part for part in parts if part.split("==")[0] in _FROM_SOURCE))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
    foreign = ["--python-version", _PYTHON, "--only-binary=:all:", *_platforms()]
    run_program([*pip, *foreign, "-r", str(binary)])
    run_program([*pip, *foreign, "-r", str(build)])
    run_program([*pip, "--no-build-isolation", "--no-binary=:all:", "-r", str(source)])


def _platforms() -> list[str]:
    names = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC_MINOR_MAX, 4, -1)]
    names += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    return [word for name in names for word in ("--platform", name)]

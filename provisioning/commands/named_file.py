"""A file that somebody named on the command line."""

from __future__ import annotations

from pathlib import Path

from provisioning.commands.outcome import CannotDo


def read_named(path: Path, size_max: int) -> bytes:
    """The file, and one byte more than allowed when it is too large: whoever reads its content then says so."""
    try:
        with path.open("rb") as file:
            return file.read(size_max + 1)
    except OSError as cause:
        raise CannotDo(f"{path} cannot be read: {cause.strerror}", "check the name of the file") from cause

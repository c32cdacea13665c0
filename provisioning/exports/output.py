"""A file that is there whole or not at all, and never takes another's place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provisioning.commands.outcome import CannotDo


@contextmanager
def new_file(output: Path) -> Iterator[Path]:
    """A name to write to; it becomes `output` when the block ends well, and goes when it does not."""
    if output.exists():
        raise CannotDo(f"{output} is there already", "name another file, or remove this one")
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(output)
    except OSError as cause:
        raise CannotDo(
            f"{output} cannot be written: {cause.strerror}", "check the folder and its free space"
        ) from cause
    finally:
        partial.unlink(missing_ok=True)

"""Small files that are either the old ones or the new ones, whenever the power goes.

Owns replacing whole files. Must never leave a half-written file under the real name, nor one that others can read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Put `content` under `path` with mode 0600; on return it survives a power cut.

    The order is the promise: bytes fsynced under another name, renamed, then the directory fsynced.
    """
    _put(path, content, lambda beside: beside.replace(path))


def create_durably(path: Path, content: bytes) -> None:
    """As `write_durably`, for what is never written over: raises FileExistsError when anything lies under `path`."""
    _put(path, content, lambda beside: os.link(beside, path))


def _put(path: Path, content: bytes, name: Callable[[Path], object]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        name(beside)
    finally:
        beside.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

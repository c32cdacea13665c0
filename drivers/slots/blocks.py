"""A disk as a row of bytes: a block device, or a file that holds an image of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class Blocks(Protocol):
    """What the drivers here need of a disk; tests put one under it that loses power."""

    @property
    def size(self) -> int:
        """Of the whole disk, bytes."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes."""
        ...

    def write(self, offset: int, content: bytes) -> None: ...

    def sync(self) -> None:
        """Every write until now is on the medium when this returns."""
        ...


class DiskBlocks:
    """The real one."""

    def __init__(self, path: Path) -> None:
        # Without O_CREAT: a name that is wrong must not become a file.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    @property
    def size(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def read(self, offset: int, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            piece = os.pread(self._descriptor, size - len(content), offset + len(content))
            if not piece:
                raise OSError(f"the disk ends {size - len(content)} bytes early")
            content += piece
        return bytes(content)

    def write(self, offset: int, content: bytes) -> None:
        left = memoryview(content)
        while left:
            written = os.pwrite(self._descriptor, left, offset)
            left, offset = left[written:], offset + written

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

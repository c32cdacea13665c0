"""A disk that loses power: what was not synced survives sector by sector, by chance."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from drivers.slots.blocks import DiskBlocks

SECTOR: Final = 512


class PowerCut(BaseException):
    """The machine is dark; nothing of the process goes on."""


class LosingBlocks(DiskBlocks):
    """The real disk behind a cache without a battery.

    Attributes:
        spent: bytes written until now.
    """

    def __init__(self, path: Path, *, lasts: int, seed: int) -> None:
        """`lasts`: bytes after which the power goes, in the middle of a write where that is so."""
        super().__init__(path)
        self.spent = 0
        self._lasts = lasts
        self._chance = random.Random(seed)
        self._cached: dict[int, bytes] = {}

    def read(self, offset: int, size: int) -> bytes:
        self._flush()  # a read is answered with what was written; that it flushes too loses nothing of the point
        return super().read(offset, size)

    def write(self, offset: int, content: bytes) -> None:
        assert offset % SECTOR == 0
        for at in range(0, len(content), SECTOR):
            piece = content[at : at + SECTOR]
            self.spent += len(piece)
            if self.spent > self._lasts:
                self.cut()
            self._cached[offset + at] = piece

    def sync(self) -> None:
        self._flush()
        super().sync()

    def cut(self) -> None:
        """Now."""
        for offset, piece in self._cached.items():
            if self._chance.random() < 0.5:
                super().write(offset, piece)
        self.close()
        raise PowerCut

    def _flush(self) -> None:
        for offset, piece in self._cached.items():
            super().write(offset, piece)
        self._cached.clear()

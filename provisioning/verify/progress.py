"""How far something came: a bar for eyes, nothing when nobody looks, and a file that counts what was read of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from rich.progress import TaskID

STEP: Final = 1_000
_BUFFER_BYTES: Final = 1 << 20

_T = TypeVar("_T")


class Progress(Protocol):
    """Where a long work says how far it came."""

    def begin(self, total: int) -> None:
        """Say how much there is to do."""

    def advance(self, count: int) -> None:
        """Say how much more was done."""


class Unseen:
    """Nobody looks."""

    def begin(self, total: int) -> None:
        """Nothing to show."""

    def advance(self, count: int) -> None:
        """Nothing to show."""


@contextmanager
def watch(title: str, *, is_shown: bool) -> Iterator[Progress]:
    """A bar on standard error while the block runs, or nothing."""
    if not is_shown:
        yield Unseen()
        return
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    with RichProgress(console=Console(stderr=True), transient=True) as shown:
        yield _Bar(shown.add_task(title, total=None), shown.update, shown.advance)


def counted(items: Iterable[_T], progress: Progress) -> Iterator[_T]:
    """`items`, reported by the thousand: once for each would cost more than checking them."""
    for number, item in enumerate(items, start=1):
        yield item
        if not number % STEP:
            progress.advance(STEP)


def open_counted(path: Path, progress: Progress) -> io.BufferedReader:
    """A file that reports the bytes read of it, a megabyte at a time. Raises OSError."""
    raw = _CountedFile(path, progress.advance)
    progress.begin(path.stat().st_size)
    return io.BufferedReader(raw, _BUFFER_BYTES)


class _CountedFile(io.FileIO):
    def __init__(self, path: Path, advance: Callable[[int], None]) -> None:
        super().__init__(path, "r")
        self._advance = advance

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        count = super().readinto(buffer)
        self._advance(count or 0)
        return count


class _Bar:
    def __init__(self, task: TaskID, update: Callable[..., None], advance: Callable[[TaskID, float], None]) -> None:
        self._task = task
        self._update = update
        self._advance = advance

    def begin(self, total: int) -> None:
        self._update(self._task, total=total)

    def advance(self, count: int) -> None:
        self._advance(self._task, count)

"""Backups that are made by themselves: one when the newest is old, into a folder, the oldest ones removed.

Owns the folder's files of this log, by their names. Must never make the folder: a stick that was pulled out leaves an
empty mount point, and a backup there would be on the disk that it is to outlive. Must never remove one that is not
this log's, nor an old one before a new one is whole.

* A file has its name once it was written, fsynced and read back: what is half there is called `.partial`.
* What is there is asked of the folder, never remembered: it may have been changed, emptied or taken along.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from appliance.device.backup import Backup
from appliance.ledger.backup_file import read_header
from appliance.ledger.recover import fsync_folder
from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.model.limits import MINUTE_MS
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics

LOOK_EVERY_MS: Final = 10 * MINUTE_MS
SUFFIX: Final = ".tillstone-backup"
_READ_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"-(?P<made_ms>[0-9]{13})-(?P<size>[0-9]+)" + re.escape(SUFFIX) + r"\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBackup:
    """A backup in the folder: when it was made (Unix ms), and how many entries it holds."""

    path: Path
    made_ms: int
    size: int


class BackupKeeper:
    """`run` is a service.

    Attributes:
        newest: as the last look found it; None when there is none, or no folder.
        trouble: why the last try failed; None when all is well.
    """

    def __init__(
        self,
        *,
        backup: Backup,
        folder: Path,
        origin: str,
        every_ms: int,
        keep: int,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._backup = backup
        self._folder = folder
        self._prefix = origin.replace("/", "_")
        self._every_ms = every_ms
        self._keep = keep
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self.newest: KeptBackup | None = None
        self.trouble: str | None = None

    async def run(self) -> None:
        """Look, make one where it is due, rest."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_EVERY_MS)

    async def look(self) -> None:
        """One look; what fails is told by `trouble` and tried again at the next."""
        try:
            await self._look()
        except (Unavailable, OutcomeUnknown, OSError) as failure:
            if self.trouble is None:
                self._log.warning("backup.failed", error=failure)
            self.trouble = failure.strerror or str(failure) if isinstance(failure, OSError) else failure.detail
        else:
            self.trouble = None
        newest_ms = 0 if self.newest is None else self.newest.made_ms
        self._metrics.backup_stands(newest_ms, has_failed=self.trouble is not None)

    async def _look(self) -> None:
        kept = await asyncio.to_thread(self._kept)
        self.newest = kept[-1] if kept else None
        # A clock that was set back must not stop backups for a year.
        age_ms = None if self.newest is None else self._clock.now_ms() - self.newest.made_ms
        if age_ms is None or not 0 <= age_ms < self._every_ms:
            self.newest = await self._make()
            await asyncio.to_thread(self._remove_old)

    async def _make(self) -> KeptBackup:
        partial = self._folder / f"{self._prefix}.partial"
        digest = hashlib.sha256()
        try:
            file = await asyncio.to_thread(_create, partial)
            try:
                async with aclosing(self._backup.stream()) as pieces:
                    async for piece in pieces:
                        digest.update(piece)
                        await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(_settle, file)
            finally:
                await asyncio.to_thread(file.close)
            made = await asyncio.to_thread(self._name, partial, digest.digest())
        finally:
            with suppress(OSError):
                await asyncio.to_thread(partial.unlink, missing_ok=True)
        self._log.info("backup.made", file=made.path.name, entries=made.size)
        return made

    def _name(self, partial: Path, digest: bytes) -> KeptBackup:
        """Give the file its name, once it is read back as it was written."""
        if _digest(partial) != digest:
            raise Unavailable("backup_unreadable", f"{partial.name} is not read back as it was written")
        with partial.open("rb") as file:
            header = read_header(file)
        path = self._folder / f"{self._prefix}-{header.made_ms:013}-{header.size}{SUFFIX}"
        partial.rename(path)
        fsync_folder(path.parent)
        return KeptBackup(path=path, made_ms=header.made_ms, size=header.size)

    def _kept(self) -> list[KeptBackup]:
        """Those of this log, the oldest first. Raises OSError: there is no folder."""
        found: list[KeptBackup] = []
        for path in self._folder.iterdir():
            match = _NAME.search(path.name)
            if match is not None and path.name[: match.start()] == self._prefix:
                found.append(KeptBackup(path=path, made_ms=int(match["made_ms"]), size=int(match["size"])))
        return sorted(found, key=lambda each: (each.size, each.made_ms))

    def _remove_old(self) -> None:
        for each in self._kept()[: -self._keep]:
            each.path.unlink()


def _create(partial: Path) -> BinaryIO:
    partial.unlink(missing_ok=True)
    return os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)


def _settle(file: BinaryIO) -> None:
    os.fsync(file.fileno())
    # What is read back should come from the medium, not from memory.
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.digest()

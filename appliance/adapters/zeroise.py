"""The end of a box's secrets: token objects, what opens the PIN, and the files that hold or wrap a secret.

Owns the order and the proof. Its rules:
- each part is done whatever became of the others: with one of them gone the others open nothing;
- doing it again finishes what was cut short, and a box that has nothing left is proven too;
- a file is overwritten with zeros and stays, so that the settings that name it can still be read. A flash disk may keep
  the old block: what lies there in clear (a provider's key) is to be revoked at its provider, the rest is wrapped by
  keys that no longer exist.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from appliance.adapters.hsm_link import HsmLink
from appliance.adapters.tpm_sealer import TpmSealer
from appliance.model.errors import TillstoneError

Result = TypeVar("Result")
DEADLINE_MS: Final = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Zeroised:
    """What was destroyed and read back; `failures` is empty when all of it is proven.

    Attributes:
        objects: that the token held; None: it could not be asked.
        tpm: how the TPM forgot; empty: there is none, or it could not be asked.
        files: overwritten.
    """

    objects: int | None
    tpm: str
    files: tuple[Path, ...]
    failures: tuple[str, ...]

    @property
    def is_proven(self) -> bool:
        return not self.failures


async def zeroise(*, link: HsmLink | None, sealer: TpmSealer | None, files: Iterable[Path]) -> Zeroised:
    """Destroy all of it, for good.

    Args:
        link: the token; None where its PIN is gone already: nobody can log in to it any more.
        sealer: None where no TPM is set up.
    """
    failures: list[str] = []
    # The keys first: once the PIN is gone nobody could ask the token to destroy them.
    objects = None if link is None else await _tried(link.destroy_keys(DEADLINE_MS), failures)
    tpm = None if sealer is None else await _tried(sealer.forget(), failures)
    wiped = await asyncio.to_thread(_wipe_all, tuple(files), failures)
    return Zeroised(objects=objects, tpm=tpm or "", files=wiped, failures=tuple(failures))


async def _tried(work: Awaitable[Result], failures: list[str]) -> Result | None:
    try:
        return await work
    except TillstoneError as failure:
        failures.append(f"{failure.code}: {failure.detail}")
        return None


def _wipe_all(files: tuple[Path, ...], failures: list[str]) -> tuple[Path, ...]:
    found = tuple(file for file in files if file.is_file())
    failures += [f"{file.name}: {reason}" for file in found if (reason := _wipe(file))]
    return found


def _wipe(file: Path) -> str:
    """Overwrite with zeros and read them back; the reason when that failed."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            os.pwrite(descriptor, bytes(size), 0)
            os.fsync(descriptor)
            return "" if os.pread(descriptor, size, 0) == bytes(size) else "other bytes than zeros came back"
        finally:
            os.close(descriptor)
    except OSError as failure:
        return os.strerror(failure.errno or 0)

"""Retires a box: the last entry, the mark, then the end of its secrets; and the start that finds the mark."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from appliance.adapters.hsm_link import HsmLink
from appliance.adapters.tpm_sealer import TpmSealer
from appliance.adapters.zeroise import Zeroised, zeroise
from appliance.config.schema import Settings
from appliance.config.secret_files import secret_files
from appliance.device.life import DeviceLife
from appliance.device.retirement import mark_retired, retired_for
from appliance.ledger.ledger import Ledger
from appliance.ledger.subject_keys import STORE_KEY_FILE
from appliance.model.device_state import Cause, DeviceState
from appliance.model.errors import Corrupt, OutcomeUnknown, TillstoneError, Unavailable
from appliance.model.limits import SIGNATURE_WAIT_MS
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.supervise import Supervisor
from appliance.wiring.trust import Trust, open_link, open_sealer

RECORD_S_MAX: Final = 3.0
"""What a last entry and its signature may take: somebody may be at the board with a screwdriver."""
BOUND_MS: Final = 90_000


class Retirement:
    """Of a running box; at most one."""

    def __init__(self, *, settings: Settings, trust: Trust, ledger: Ledger, life: DeviceLife, log: Log) -> None:
        self._settings = settings
        self._trust = trust
        self._ledger = ledger
        self._life = life
        self._log = log
        self._work: asyncio.Future[None] | None = None

    def begin(self, supervisor: Supervisor, reason: str, cause: Cause) -> None:
        """In the background, then the process stops. A stop waits for it; a crash leaves the rest to the next start."""
        if self._work is None:
            self._work = supervisor.begin("zeroise", partial(self._run, supervisor, reason, cause), bound_ms=BOUND_MS)

    async def _run(self, supervisor: Supervisor, reason: str, cause: Cause) -> None:
        try:
            async with asyncio.timeout(RECORD_S_MAX):
                await self._record(reason, cause)
        except (TimeoutError, Unavailable, OutcomeUnknown) as trouble:
            self._log.warning("retirement.unrecorded", error=trouble)
        await asyncio.to_thread(mark_retired, self._settings.storage.path, reason)
        done = await zeroise(link=self._trust.link, sealer=self._trust.sealer, files=files_to_wipe(self._settings))
        tell(done, self._log)
        supervisor.stop("retired")

    async def _record(self, reason: str, cause: Cause) -> None:
        if self._life.standing.state is not DeviceState.RETIRED:
            await self._life.retire(reason, cause)
        await self._ledger.receipts((self._ledger.head.size - 1,), SIGNATURE_WAIT_MS)


async def refuse_retired(settings: Settings, clock: Clock, log: Log) -> None:
    """Return when the box was never retired; else destroy what may be left and go no further.

    Raises:
        Corrupt: `box_retired`.
    """
    reason = await asyncio.to_thread(retired_for, settings.storage.path)
    if reason is None:
        return
    sealer = await _opened_sealer(settings)
    link = await _opened_link(settings, sealer, clock)
    try:
        tell(await zeroise(link=link, sealer=sealer, files=files_to_wipe(settings)), log)
    finally:
        for device in (link, sealer):
            if device is not None:
                await device.close()
    raise Corrupt("box_retired", f"this box is retired and never starts again: {reason}")


def files_to_wipe(settings: Settings) -> Iterator[Path]:
    """All that hold a secret in clear or wrapped. The TPM's bundle stays: a forgotten TPM opens nothing of it."""
    yield from secret_files(settings)
    yield settings.storage.path / STORE_KEY_FILE
    if settings.post_quantum.envelope_path is not None:
        yield settings.post_quantum.envelope_path
    if settings.note is not None:
        yield settings.note.envelope_path


def tell(done: Zeroised, log: Log) -> None:
    """One line: what was destroyed, and what could not be proven."""
    say = log.info if done.is_proven else log.error
    say(
        "device.zeroised",
        is_proven=done.is_proven,
        objects=-1 if done.objects is None else done.objects,
        tpm=done.tpm,
        files=len(done.files),
        failures="; ".join(done.failures),
    )


async def _opened_sealer(settings: Settings) -> TpmSealer | None:
    try:
        return await asyncio.to_thread(open_sealer, settings)
    except (OSError, ValueError):
        return None  # the bundle is gone: nothing names what the TPM should forget


async def _opened_link(settings: Settings, sealer: TpmSealer | None, clock: Clock) -> HsmLink | None:
    try:
        return await open_link(settings, sealer, clock)
    except TillstoneError:
        return None  # the PIN is gone, and with it every way into the token

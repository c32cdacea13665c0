"""The log begins: genesis, epoch, the entry `provisioned`, and a checkpoint over them.

Owns that one opening of the log without its box. Must never append twice: run again, it finds the entry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from appliance.config.schema import Settings
from appliance.crypto import cbor
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.invariants import ensure
from appliance.runtime.clock import SystemClock
from appliance.wire.ceremony_entries import PROVISIONED, ProvisionedEntry
from appliance.wiring.opening import open_ledger
from appliance.wiring.trust import Trust, open_trust
from drivers.hsm.library import load as load_library

ACTOR: Final = "operator"


async def begin_log(settings: Settings, *, site_sha256: bytes) -> bytes:
    """The newest checkpoint; the log says by then who provisioned it.

    Args:
        site_sha256: of the owner's signed answer.
    """
    async with opened(settings) as (trust, ledger):
        body = ProvisionedEntry(site=site_sha256)
        await append_once(ledger, PROVISIONED, cbor.encode(msgspec.to_builtins(body, builtin_types=(bytes,))))
        return await checkpoint(trust, ledger)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Trust, Ledger]]:
    """The devices and the log of a box that does not run; every earlier login of this process ends."""
    load_library(str(settings.hsm.module_path)).reinitialise()
    clock = SystemClock()
    async with open_trust(settings, clock) as trust:
        ledger = await open_ledger(settings, trust, clock)
        try:
            yield trust, ledger
        finally:
            await ledger.close()


async def append_once(ledger: Ledger, kind: str, body: bytes) -> None:
    """One entry of `kind`, for ever."""
    found = await ledger.read(
        lambda connection: connection.execute("SELECT count(*) FROM entries WHERE kind = ?", (kind,)).fetchone()
    )
    if not found[0]:
        draft = Draft(kind=kind, actor=ACTOR, time_ms=SystemClock().now_ms(), body=body)
        await ledger.append([draft], purpose=Purpose.OUTCOME)


async def checkpoint(trust: Trust, ledger: Ledger) -> bytes:
    """A signed note over everything that stands in the log."""
    ensure(trust.note is not None, "a box that the ceremony makes has a key of checkpoints")
    if trust.note is None:
        return b""
    maker = CheckpointMaker(
        origin=trust.statement.origin,
        note=trust.note,
        post_quantum=trust.signers.post_quantum,
        newest=lambda: ledger.head,
        clock=SystemClock(),
    )
    return await maker.now()

"""Sealed parcels of the box, kept by a terminal in case the box is lost. The terminal cannot read them.

Owns the folder `escrow` of a terminal's home. Its rules:
- a parcel is durable before an older one is removed; the newest few stay, each of bounded size;
- what is kept is what the box gave: whether it is genuine is found out with the recovery key, elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Final

from appliance.ledger.parcel import PARCEL_BYTES_MAX, read_header
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.ports.clock import Clock
from appliance.wire.answers import EscrowAnswer
from provisioning.terminal.client import TerminalClient
from provisioning.terminal.durable import write_durably
from provisioning.terminal.home import TerminalHome

KEPT_MAX: Final = 3
"""Each has all that waited when it was made: the newest serves, the others are for a newest that cannot be read."""
EVERY_MS: Final = 30_000
ASK_MS: Final = 10_000
_NAME: Final = re.compile(r"\A([0-9]{12})\.parcel\Z")


def kept_parcels(home: TerminalHome) -> list[Path]:
    """The parcels that are kept, the oldest first."""
    if not home.escrow_folder.is_dir():
        return []
    return sorted(path for path in home.escrow_folder.iterdir() if _NAME.match(path.name))


async def keep_newest(home: TerminalHome, client: TerminalClient) -> EscrowAnswer:
    """Ask for the newest parcel and keep it. Raises like `TerminalClient.payment`; `escrow_malformed`."""
    answer = await client.escrow(await asyncio.to_thread(_size_of_newest, home), deadline=client.deadline(ASK_MS))
    if answer.parcel is not None:
        await asyncio.to_thread(_keep, home, client.profile.audience, answer.size, answer.parcel)
    return answer


async def keep_always(home: TerminalHome, client: TerminalClient, clock: Clock) -> None:
    """A service of a till: keep the newest parcel, for ever; a box that does not answer is asked again later.

    Raises:
        Rejected: `escrow_not_set_up`, or another refusal that asking again does not change.
    """
    while True:
        with contextlib.suppress(Unavailable, OutcomeUnknown):
            await keep_newest(home, client)
        await clock.sleep(EVERY_MS)


def _size_of_newest(home: TerminalHome) -> int:
    kept = kept_parcels(home)
    return int(kept[-1].stem) if kept else 0


def _keep(home: TerminalHome, audience: str, size: int, parcel: bytes) -> None:
    header = read_header(parcel)
    if len(parcel) > PARCEL_BYTES_MAX or (header.origin, header.size) != (audience, size):
        raise Rejected("escrow_malformed", f"expected a parcel of {audience} with {size} entries")
    home.escrow_folder.mkdir(mode=0o700, exist_ok=True)
    write_durably(home.escrow_folder / f"{size:012}.parcel", parcel)
    for old in kept_parcels(home)[:-KEPT_MAX]:
        old.unlink()

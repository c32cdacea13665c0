"""Builds pruning: who vouches for a snapshot, and whose work still needs old entries."""

from __future__ import annotations

from typing import Final

from appliance.anchor.cars import reached
from appliance.config.schema import Settings
from appliance.ledger.archive import Archive
from appliance.ledger.ledger import Ledger
from appliance.ledger.prune import Floor, Pruning
from appliance.model.errors import Rejected
from appliance.payment.operation_records import open_operations
from appliance.ports.clock import Clock
from appliance.wiring.followers import Followers, Outside
from appliance.wiring.projections import projections

_OPERATIONS_MAX: Final = 100_000  # open ones; more than a handful is an incident already


def make_pruning(
    settings: Settings, *, ledger: Ledger, archive: Archive, outside: Outside, followers: Followers, clock: Clock
) -> Pruning:
    """Pruning for a box with these followers."""

    async def is_cosigned(size: int) -> bool:
        try:
            return await followers.witnessed(size) is not None
        except Rejected:  # no witness is set up, so nobody vouches
            return False

    async def oldest_open_intent() -> int | None:
        """An outcome names the hash of its intent's entry."""
        found = await ledger.read(lambda connection: open_operations(connection, _OPERATIONS_MAX))
        return min((each.intent_seq for each in found), default=None)

    async def unpublished() -> int:
        return await outside.store.read(reached)

    floors: list[Floor] = [oldest_open_intent]
    if settings.publication is not None:
        floors.append(unpublished)
    return Pruning(
        ledger=ledger,
        archive=archive,
        folder=settings.storage.path,
        projections=projections(),
        clock=clock,
        is_cosigned=is_cosigned,
        floors=floors,
    )

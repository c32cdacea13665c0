"""Preparing: everything that can be done to drafts before the queue, on the caller's thread.

Owns encoding and sealing. Must never know the tail: what depends on the place in the log is the writer's.
"""

from __future__ import annotations

from appliance.crypto.random import random_piece
from appliance.ledger.disclosures import DisclosureVault
from appliance.ledger.draft import Draft
from appliance.ledger.entry import encode_stem
from appliance.ledger.group import Append, SealedDisclosure
from appliance.ledger.guard import Guard
from appliance.model.errors import Unavailable


async def prepare(drafts: tuple[Draft, ...], guard: Guard | None, vault: DisclosureVault | None) -> Append:
    """Encode each draft up to its place and seal its disclosures; waits only for the key of a new subject."""
    stems = tuple(
        [
            encode_stem(time_ms=draft.time_ms, kind=draft.kind, actor=draft.actor, body=draft.body, salt=random_piece())
            for draft in drafts
        ]
    )
    sealed = await _seal(drafts, vault)
    size_bytes = sum([len(stem) for stem in stems]) + sum([len(item.ciphertext) for item in sealed])
    return Append(drafts=drafts, stems=stems, sealed=sealed, guard=guard, size_bytes=size_bytes)


async def _seal(drafts: tuple[Draft, ...], vault: DisclosureVault | None) -> tuple[SealedDisclosure, ...]:
    if not any(draft.disclosures for draft in drafts):
        return ()
    if vault is None:
        raise Unavailable("disclosures_closed", "expected a store key for the subject keys")
    sealed = vault.seal_now(drafts)
    while sealed is None:
        await vault.load_keys(drafts)
        sealed = vault.seal_now(drafts)
    return sealed

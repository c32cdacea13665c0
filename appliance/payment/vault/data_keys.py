"""Data keys over their life: made, used, followed by a new one, destroyed; each with an entry, while the box sells.

    made        in vault.db, durable             -> entry `vault_key_made`       -> used from then on
    followed    tokens move in steps of one transaction each; every token lies under exactly one key at any time
    destroyed   closed in vault.db once empty    -> entry `vault_key_destroyed`  -> removed from vault.db

A crash between any two of these is finished by the next `tidy`: what is to be done is read from the file and the log,
never remembered.
"""

from __future__ import annotations

from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.guard import Guard
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.payment.vault.rows import KeyStands, standing_keys
from appliance.payment.vault.safe import Safe
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.wire import vault_entries
from appliance.wire.requests import Wire

BOX_ACTOR: Final = "box"
PAUSE_MS: Final = 10
"""Between two steps: sales come first. 10,000 tokens move in some ten seconds."""


class DataKeys:
    """Which data key new tokens go under, and the end of those before it."""

    def __init__(self, *, safe: Safe, ledger: Ledger, clock: Clock, log: Log) -> None:
        self._safe = safe
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._current: int | None = None
        self._being_made: set[int] = set()

    async def current(self) -> int:
        """The data key that new tokens go under; the first one is made when the first token comes."""
        if self._current is None:
            await self._find_current()
        return await self.make(BOX_ACTOR) if self._current is None else self._current

    async def make(self, actor: str) -> int:
        """A new data key, used from now on; `tidy` moves the tokens under it.

        Raises:
            Unavailable: `vault_closed`, or as `Ledger.append`; nothing changed.
        """
        key_id = await self._safe.make_key(self._clock.now_ms())
        self._being_made.add(key_id)
        try:
            body = vault_entries.VaultKeyMadeEntry(key=key_id)
            await self._append(vault_entries.KEY_MADE, body, actor, purpose=Purpose.INTENT)
            self._current = key_id
        finally:
            self._being_made.discard(key_id)
        return key_id

    async def made_ms(self) -> int | None:
        """When the data key in use was made; None where there is none yet."""
        await self._find_current()
        standing = dict(await self._ledger.read(standing_keys))
        return None if self._current is None else standing.get(self._current)

    async def tidy(self) -> None:
        """Move every token under the current data key and destroy the others; go on where a crash ended it.

        Raises:
            Unavailable: the vault is closed, or the ledger busy; what was done stays done.
        """
        await self._find_current()
        if self._current is not None:
            await self._move(self._current)
        held = [each.key_id for each in await self._safe.keys()]
        standing = [key_id for key_id, _ in await self._ledger.read(standing_keys)]
        for key_id in {*held, *standing} - {self._current} - self._being_made:
            # Not in the file any more: an older one was put in its place. Its end is told all the same.
            if key_id not in held or await self._safe.close_key(key_id):
                await self._destroy(key_id)

    async def _find_current(self) -> None:
        """The newest data key that the log and the file know, after a start or where the file was changed."""
        usable = {each.key_id for each in await self._safe.keys() if not each.is_closed}
        if self._current not in usable:
            standing = [key_id for key_id, _ in await self._ledger.read(standing_keys) if key_id in usable]
            self._current = standing[-1] if standing else None

    async def _move(self, key_id: int) -> None:
        after: str | None = ""
        while after is not None and key_id == self._current:
            step = await self._safe.reseal(key_id, after=after)
            after = step.after
            for name in step.unreadable:
                self._log.error("vault.token_unreadable", name=name)
            if after is not None:
                await self._clock.sleep(PAUSE_MS)

    async def _destroy(self, key_id: int) -> None:
        body = vault_entries.VaultKeyDestroyedEntry(key=key_id)
        try:
            await self._append(vault_entries.KEY_DESTROYED, body, BOX_ACTOR, guard=KeyStands(key_id=key_id))
        except Rejected:
            # Told before, or made in the moment of a crash and never used: then nothing was ever told of it.
            self._log.info("vault.key_removed", key=key_id)
        await self._safe.remove_key(key_id)

    async def _append(
        self, kind: str, body: Wire, actor: str, *, guard: Guard | None = None, purpose: Purpose = Purpose.OUTCOME
    ) -> None:
        encoded = cbor.encode_ordered(msgspec.to_builtins(body))
        draft = Draft(kind=kind, actor=actor, time_ms=self._clock.now_ms(), body=encoded)
        await self._ledger.append([draft], guard, purpose=purpose)

"""The vault: keeps providers' reusable tokens, gives one out to the operation that it is for, forgets it for good.

Rules:
- A token comes in once, at a till, and goes out only to the provider that gave it, for a purpose it was kept for, while
  the log says that it is kept. Nobody can read it back: no answer, entry, table or log line holds one.
- The log decides, the safe follows: sealed first, then the entry; forgotten in the log first, then removed. What a
  crash leaves in between is removed by the next `sweep`.
- Where the vault is closed, payments that name a token are refused before money moves; all others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import ProviderName
from appliance.model.limits import DAY_MS, HOUR_MS
from appliance.model.operation import Operation, OperationKind
from appliance.model.provider_token import PURPOSE_OF, TokenBinding, TokenName, is_token_name
from appliance.payment.vault.data_keys import BOX_ACTOR, DataKeys
from appliance.payment.vault.rows import (
    StandingToken,
    TokenRefused,
    TokenUsable,
    all_tokens,
    kept_among,
    require_token,
    require_usable,
)
from appliance.payment.vault.safe import Safe
from appliance.ports import provider as port
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.nap import nap
from appliance.wire import vault_entries

KEY_AGE_MAX_MS: Final = 90 * DAY_MS
"""A data key that is older is followed by a new one."""
_PUTS_MAX: Final = 3
_SWEPT_MAX: Final = 500


class Vault:
    """Tokens of this box; `run` is its service.

    Args:
        is_in_clear: whether a tender's source is itself a provider's reusable token.
    """

    def __init__(
        self, *, safe: Safe, ledger: Ledger, clock: Clock, log: Log, is_in_clear: Callable[[str], bool]
    ) -> None:
        self._safe = safe
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._is_in_clear = is_in_clear
        self.keys = DataKeys(safe=safe, ledger=ledger, clock=clock, log=log)
        self._being_kept: set[TokenName] = set()
        self._bell = asyncio.Event()
        self.trouble: str | None = None
        """Why the last look at the vault failed; None when it is in order."""

    async def keep(self, binding: TokenBinding, token: bytes, record: Callable[[], Awaitable[None]]) -> None:
        """Seal `token`, durable, then `record` it; where that is refused nothing is kept.

        Raises:
            Unavailable: `vault_closed`; and what `record` raises.
        """
        self._being_kept.add(binding.name)
        try:
            await self._put(binding, token)
            try:
                await record()
            except (Rejected, Unavailable):
                await self._safe.drop([binding.name])
                raise
        finally:
            self._being_kept.discard(binding.name)

    async def admit(self, source: str | None, provider: ProviderName, kind: OperationKind) -> None:
        """Refuse a payment whose token could not be used, before there is an intent.

        Raises:
            TokenRefused: `token_unknown`, `token_forgotten`, `token_erased`, `token_expired`, `token_purpose_wrong`,
                `token_of_another_provider`; `source_in_clear`: a token itself, which no entry may hold.
            Rejected: `token_unreadable`.
            Unavailable: `vault_closed`.
        """
        if source is None:
            return
        if is_token_name(source):
            standing = await self._ledger.read(lambda connection: require_token(connection, TokenName(source)))
            require_usable(standing, self._clock.now_ms())
            await self._open(standing, provider, kind)
        elif self._is_in_clear(source):
            raise TokenRefused(
                "source_in_clear", "a provider's reusable token is handed to the vault once; a sale names it"
            )

    async def authorise(self, provider: port.Provider, question: port.Authorise, operation: Operation) -> port.Answer:
        """Ask `provider`, with the token itself where the source names one; `TokenUsable` held with the intent."""
        if not is_token_name(question.source):
            return await provider.authorise(question)
        name = TokenName(question.source)
        try:
            standing = await self._ledger.read(
                lambda connection: require_token(connection, name), purpose=Purpose.OUTCOME
            )
            token = await self._open(standing, operation.provider, operation.kind)
        except (Rejected, Unavailable) as refusal:
            return port.Refused(code=refusal.code, detail=refusal.detail)  # the provider was not asked
        return await provider.authorise(replace(question, source=port.CardSource(token.decode())))

    async def forget(self, name: TokenName, *, actor: str, reason: str) -> int:
        """The operator wants a token gone; returns the entry.

        Raises:
            TokenRefused: `token_unknown`, `token_forgotten`, `token_erased`.
            Unavailable, OutcomeUnknown: as `Ledger.append`.
        """
        body = vault_entries.TokenForgottenEntry(name=name, reason=reason)
        encoded = cbor.encode_ordered(msgspec.to_builtins(body))
        now_ms = self._clock.now_ms()
        draft = Draft(kind=vault_entries.FORGOTTEN, actor=actor, time_ms=now_ms, body=encoded)
        # An expired one may be forgotten: only what is gone already is refused.
        (recorded,) = await self._ledger.append([draft], TokenUsable(name=name, now_ms=0), purpose=Purpose.OUTCOME)
        await self.remove(name)
        return recorded.seq

    async def remove(self, name: TokenName) -> None:
        """Take a token out of the safe that the log says is forgotten; later, where the safe is closed now."""
        await self._or_later(self._safe.drop([name]))

    async def sweep(self) -> None:
        """Remove from the safe what the log does not say is kept; later, where the safe is closed now."""
        await self._or_later(self._sweep())

    async def rotate(self, actor: str) -> int:
        """A new data key; tokens move under it in the background. Raises as `DataKeys.make`."""
        key_id = await self.keys.make(actor)
        self._bell.set()
        return key_id

    async def run(self) -> None:
        """A service: sweep, finish rotations, forget what has expired, begin a rotation when the key is old."""
        while True:
            try:
                await self.look()
                self.trouble = None
            except Unavailable as trouble:
                if self.trouble is None:
                    self._log.warning("vault.look_failed", code=trouble.code)
                self.trouble = trouble.detail
            await nap(self._clock, HOUR_MS, self._bell)

    async def look(self) -> None:
        """One look. Raises Unavailable: the vault is closed, or the ledger busy; what was done stays done."""
        await self._sweep()
        await self._forget_expired()
        made_ms = await self.keys.made_ms()
        if made_ms is not None and self._clock.now_ms() - made_ms >= KEY_AGE_MAX_MS:
            await self.keys.make(BOX_ACTOR)
        await self.keys.tidy()

    async def _open(self, standing: StandingToken, provider: ProviderName, kind: OperationKind) -> bytes:
        binding = standing.binding
        if binding.provider != provider:
            raise TokenRefused(
                "token_of_another_provider", f"{binding.name} is from {binding.provider}, {provider} is asked"
            )
        purpose = PURPOSE_OF.get(kind)
        if purpose not in binding.purposes:
            kept_for = ", ".join(binding.purposes)
            raise TokenRefused("token_purpose_wrong", f"{binding.name} was kept for {kept_for}, not for this")
        return await self._safe.open(binding)

    async def _put(self, binding: TokenBinding, token: bytes) -> None:
        for _ in range(_PUTS_MAX):
            if await self._safe.put(binding, token, await self.keys.current()):
                return
        raise Unavailable("vault_closed", "the vault's data key keeps changing; ask again")

    async def _or_later(self, removal: Awaitable[None]) -> None:
        try:
            await removal
        except Unavailable as trouble:
            self._log.warning("vault.removal_postponed", code=trouble.code)
            self._bell.set()

    async def _sweep(self) -> None:
        held = sorted(await self._safe.names())
        for at in range(0, len(held), _SWEPT_MAX):
            part = held[at : at + _SWEPT_MAX]
            # Taken before the log is read: what is being kept in this moment is recorded after it was sealed.
            being_kept = set(self._being_kept)
            kept = await self._ledger.read(partial(kept_among, names=part), purpose=Purpose.OUTCOME)
            gone = set(part) - kept - being_kept
            if gone:
                await self._safe.drop(gone)
                self._log.info("vault.swept", tokens=len(gone))

    async def _forget_expired(self) -> None:
        after = ""
        while page := await self._ledger.read(partial(all_tokens, after=after, limit=_SWEPT_MAX)):
            after = page[-1].binding.name
            for token in page:
                if token.has_expired(self._clock.now_ms()):
                    with suppress(TokenRefused):  # somebody else was faster
                        await self.forget(token.binding.name, actor=BOX_ACTOR, reason="expired")

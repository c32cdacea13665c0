"""Heads: the newest durable tree head gets one signature of each key class.

Owns the signing loop. Must never sign a head that is not durable, nor after a commit failed.

* Signed when a receipt waits, at most one signing in flight, the next head is always the newest: a token that signs ten
  times a second attests everything that became durable since.
* With a signer away the receipt stays pending and signing is tried again with back-off, until it succeeds: a wish once
  uttered is kept even when its waiter gave up. `lag` says for how long and for how many entries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from appliance.ledger.genesis import LogId
from appliance.ledger.receipt import HeadSignature, SignedHead, head_protected, head_to_be_signed
from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.ports.clock import Clock
from appliance.ports.signer import Signer
from appliance.runtime.both import both

SIGNING_MAX_S = 10.0  # both signatures; a slower token counts as away
RETRY_FIRST_MS = 100
RETRY_MAX_MS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A durable tree head."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSigners:
    """The log's two keys."""

    classical: Signer
    post_quantum: Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningLag:
    """How far signatures are behind what was asked: both 0 when nothing waits."""

    entries: int
    age_ms: int


class HeadSigner:
    """Signs heads for whoever waits; lives on the event loop."""

    def __init__(self, *, log_id: LogId, signers: LogSigners, newest: Callable[[], Head], clock: Clock) -> None:
        self._log_id = log_id
        self._signers = signers
        self._newest = newest
        self._clock = clock
        self._signed: SignedHead | None = None
        self._wanted_size = 0
        self._wanted_since_ms = clock.monotonic_ms()
        self._wish = asyncio.Event()
        self._waiters: dict[asyncio.Future[SignedHead], int] = {}

    @property
    def signed(self) -> SignedHead | None:
        """The newest signed head; None until the first signature after a start."""
        return self._signed

    @property
    def lag(self) -> SigningLag:
        """For the pipeline: new intents stop after 15 minutes or 5,000 unsigned entries."""
        missing = self._wanted_size - self._signed_size
        if missing <= 0:
            return SigningLag(entries=0, age_ms=0)
        return SigningLag(entries=missing, age_ms=self._clock.monotonic_ms() - self._wanted_since_ms)

    @property
    def _signed_size(self) -> int:
        return 0 if self._signed is None else self._signed.size

    def want(self, size: int) -> None:
        """Ask for a signed head of at least `size`; returns at once."""
        if size <= self._signed_size:
            return
        if self._wanted_size <= self._signed_size:
            self._wanted_since_ms = self._clock.monotonic_ms()
        self._wanted_size = max(self._wanted_size, size)
        self._wish.set()

    async def wait_for(self, size: int) -> SignedHead:
        """A signed head of at least `size`; the caller bounds the wait."""
        self.want(size)
        signed = self._signed
        if signed is not None and signed.size >= size:
            return signed
        waiter: asyncio.Future[SignedHead] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = size
        try:
            return await waiter
        finally:
            del self._waiters[waiter]  # also of a caller whose time is over: nothing piles up while signing is down

    async def run(self) -> None:
        """Sign for ever; a task of the supervisor."""
        retry_ms = RETRY_FIRST_MS
        while True:
            await self._wish.wait()
            try:
                async with asyncio.timeout(SIGNING_MAX_S):
                    signed = await self._sign(self._newest())
            except (Unavailable, OutcomeUnknown, TimeoutError):
                # A signature that may exist inside the token harms nobody: it covers a durable head.
                await self._clock.sleep(retry_ms)
                retry_ms = min(2 * retry_ms, RETRY_MAX_MS)
                continue
            retry_ms = RETRY_FIRST_MS
            self._signed = signed
            # The wish of a waiter that came during the signing was for a newer head: go round again for it.
            if self._wanted_size <= signed.size:
                self._wish.clear()
            else:
                self._wanted_since_ms = self._clock.monotonic_ms()
            self._wake(signed)

    def _wake(self, signed: SignedHead) -> None:
        """Answer whom this head covers, and nobody else: a condition would wake all of them, one after the other."""
        for waiter, size in self._waiters.items():
            if size <= signed.size and not waiter.done():
                waiter.set_result(signed)

    async def _sign(self, head: Head) -> SignedHead:
        # Each key has a thread of its own, so the slower one is all that a receipt waits for.
        classical, post_quantum = await both(
            self._sign_with(self._signers.classical, head), self._sign_with(self._signers.post_quantum, head)
        )
        return SignedHead(
            log_id=self._log_id, size=head.size, root=head.root, classical=classical, post_quantum=post_quantum
        )

    async def _sign_with(self, signer: Signer, head: Head) -> HeadSignature:
        protected = head_protected(
            algorithm=signer.algorithm, key_id=signer.key_id, log_id=self._log_id, size=head.size
        )
        return HeadSignature(protected=protected, signature=await signer.sign(head_to_be_signed(protected, head.root)))

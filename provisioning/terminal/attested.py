"""The box proves what it runs before this terminal sends it a payment, where the terminal's keeper demands that.

Owns that decision and what is remembered of the last proof. Its rules:
- a proof counts from the moment the question left, for as long as the keeper said; a clock that went back ends it;
- what is not believed, or not answered in time, stops this payment before anything of it is sent, and nothing else:
  `status`, `reversal` and stored sales still go.

Source: docs/formats/attestation.md; docs/formats/terminal-protocol.md, "attest".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from appliance.ledger.attestation import NONCE_BYTES
from appliance.ledger.trust import load_trust
from appliance.ports.clock import Clock
from appliance.runtime.deadline import Deadline
from appliance.wire.attestation import Attestation
from drivers.tpm.quote_check import BootCounts
from provisioning.attest.check import Demand, Steps, judge, read_release
from provisioning.terminal.home import Attesting, Believed, TerminalHome
from provisioning.terminal.link import peer_certificate_sha256

Ask = Callable[[bytes, Deadline], Awaitable[Attestation]]


class BoxProof:
    """What one terminal demands of its box."""

    def __init__(self, *, home: TerminalHome, clock: Clock, random: Callable[[int], bytes]) -> None:
        self._home = home
        self._clock = clock
        self._random = random
        self._turn = asyncio.Lock()  # of two payments that are due for a proof, one asks for both

    async def require(self, ask: Ask, deadline: Deadline, *, age_max_ms: int | None = None) -> None:
        """Return when the box has proven itself lately enough, or does so now.

        Args:
            age_max_ms: demanded of this payment, whatever the home says; None leaves it to the home.
        Raises:
            Rejected: the codes of `judge`: the box is not believed. Unavailable: it did not answer.
        """
        async with self._turn:
            setting = await asyncio.to_thread(self._home.attesting)
            if setting is None and age_max_ms is None:
                return
            demanded = Attesting(age_max_ms=0) if setting is None else setting
            limit_ms = demanded.age_max_ms if age_max_ms is None else age_max_ms
            asked_ms = self._clock.now_ms()
            if demanded.believed is not None and 0 <= asked_ms - demanded.believed.at_ms < limit_ms:
                return
            nonce = self._random(NONCE_BYTES)
            said = await ask(nonce, deadline)
            door = await self._door(deadline)
            believed = await asyncio.to_thread(self._judge, said, nonce, door, demanded, asked_ms)
            if setting is not None:
                kept = msgspec.structs.replace(setting, believed=believed)
                await asyncio.to_thread(self._home.keep_attesting, kept)

    async def _door(self, deadline: Deadline) -> bytes:
        profile = await asyncio.to_thread(self._home.profile)
        pinned = profile.certificate_sha256
        return bytes.fromhex(await peer_certificate_sha256(profile.url, deadline) if pinned is None else pinned)

    def _judge(self, said: Attestation, nonce: bytes, door: bytes, demanded: Attesting, asked_ms: int) -> Believed:
        trust, before = load_trust(self._home.trust()), demanded.believed
        counts = {} if before is None else {before.key: BootCounts(reset=before.reset, restart=before.restart)}
        demand = Demand(
            trust=trust,
            nonce=nonce,
            origin=self._home.profile().audience,
            tls_sha256=door,
            releases=[read_release(file, trust) for file in demanded.releases],
            counts=counts,
        )
        attested = judge(said, demand, Steps())
        seen = attested.quote.counts
        return Believed(key=attested.key_name, at_ms=asked_ms, reset=seen.reset, restart=seen.restart)

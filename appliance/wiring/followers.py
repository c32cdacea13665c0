"""Builds the followers of the log: their store, their peers, one loop each, and what health says about them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from appliance.adapters.witness_http import HttpWitness
from appliance.anchor.follower import Follower, Schedule, Standing
from appliance.anchor.store import EvidenceStore
from appliance.anchor.witnesses import NAME as WITNESS
from appliance.anchor.witnesses import CosignedCheckpoint, Witnesses
from appliance.config import schema
from appliance.device.health import Check, Finding, Level
from appliance.evidence.cosignature import WitnessKey, WitnessPolicy
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import MINUTE_MS
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What followers remember, and how they reach their peers."""

    store: EvidenceStore
    http: aiohttp.ClientSession


@asynccontextmanager
async def open_outside(folder: Path) -> AsyncIterator[Outside]:
    """Open `evidence.db` and the client; closed after every follower has ended."""
    store = await EvidenceStore.open(folder)
    try:
        # Nothing of one peer's is ever shown to another, and no proxy of the environment stands between.
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as http:
            yield Outside(store=store, http=http)
    finally:
        await store.close()


class Followers:
    """All followers of a box; none of them where nothing is set up."""

    def __init__(
        self,
        *,
        settings: schema.Settings,
        outside: Outside,
        ledger: Ledger,
        checkpoints: CheckpointMaker | None,
        quarantine: Callable[[str], None],
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._outside = outside
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._followers: list[tuple[str, Follower]] = []
        self._witnesses: Witnesses | None = None
        if settings.witnesses.named and checkpoints is not None:
            self._witnesses = self._add_witnesses(settings.witnesses, checkpoints, quarantine)

    async def begin(self, supervisor: Supervisor) -> None:
        """Compare the log with what was witnessed before anything is sold, then follow it."""
        if self._witnesses is not None:
            try:
                await self._witnesses.check_stored()
            except Unavailable as quarantined:
                self._log.error("witness.fork_proven", reason=quarantined.detail)
        for name, follower in self._followers:
            await follower.resume()
            supervisor.start(f"{name} follower", follower.run, restart=Restart.ON_CRASH)

    async def witnessed(self, size_min: int) -> CosignedCheckpoint | None:
        """The newest head of at least `size_min` entries that enough witnesses vouch for.

        Raises:
            Rejected: `not_found`: no witness is set up.
        """
        if self._witnesses is None:
            raise Rejected("not_found", "this box has no witnesses")
        return await self._witnesses.newest(size_min)

    def standings(self) -> Sequence[Standing]:
        """How each of them is."""
        return [follower.standing for _, follower in self._followers]

    @property
    def checks(self) -> Sequence[Check]:
        """One finding each for health."""
        return [_check(name, follower) for name, follower in self._followers]

    def _add_witnesses(
        self, settings: schema.Witnesses, checkpoints: CheckpointMaker, quarantine: Callable[[str], None]
    ) -> Witnesses:
        prefixes, policy = read_witnesses(settings)
        witnesses = Witnesses(
            ledger=self._ledger,
            checkpoints=checkpoints,
            witnesses=[
                HttpWitness(name=name, prefix=prefix, http=self._outside.http) for name, prefix in prefixes.items()
            ],
            policy=policy,
            store=self._outside.store,
            quarantine=quarantine,
            clock=self._clock,
            log=self._log,
        )
        # A witness is asked at most twice a round, each time for 10 s.
        bound_ms = len(prefixes) * MINUTE_MS
        schedule = Schedule(every_ms=settings.every_ms, step_ms_max=bound_ms, late_after_ms=settings.late_after_ms)
        follower = Follower(
            name=WITNESS,
            step=witnesses.step,
            schedule=schedule,
            store=self._outside.store,
            newest=lambda: self._ledger.head.size,
            clock=self._clock,
            metrics=self._metrics,
            log=self._log,
            jitter=random.Random(),  # noqa: S311 - spreads load, guards nothing
        )
        self._followers.append((WITNESS, follower))
        return witnesses


def read_witnesses(settings: schema.Witnesses) -> tuple[dict[str, str], WitnessPolicy]:
    """Where each named witness is asked, and whose word counts.

    Raises:
        Rejected: `witness_key_malformed`, `witness_policy_invalid`.
    """
    prefixes: dict[str, str] = {}
    keys: list[WitnessKey] = []
    for named in settings.named:
        prefix, *vkeys = named.split(" ")
        found = [WitnessKey.from_vkey(vkey) for vkey in vkeys]
        if len({key.name for key in found}) != 1 or found[0].name in prefixes:
            raise Rejected("witness_policy_invalid", f"expected one name, used once, for the witness at {prefix}")
        prefixes[found[0].name] = prefix
        keys.extend(found)
    return prefixes, WitnessPolicy(keys=tuple(keys), needed=settings.needed)


def _check(name: str, follower: Follower) -> Check:
    def check() -> Finding:
        standing = follower.standing
        if not standing.is_late:
            return Finding(
                check=name, level=Level.OK, sentence=f"Follower {name}: {standing.lag_entries} entries to go."
            )
        return Finding(
            check=name,
            level=Level.COPING,
            sentence=f"Follower {name} has not worked for {_hours(standing.silent_ms)}: {standing.reason}; we sell on.",
            next_step="See that the network is there and that the other side works; it is tried again by itself.",
        )

    return check


def _hours(silent_ms: int | None) -> str:
    return "its whole life" if silent_ms is None else f"{silent_ms / 3_600_000:.1f} hours"

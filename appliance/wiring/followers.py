"""Builds the followers of the log: their store, their peers, one loop each, and what health says about them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp

from appliance.adapters.ipfs_client import IpfsClient
from appliance.adapters.ipfs_http import IpfsHttp
from appliance.adapters.witness_http import HttpWitness
from appliance.anchor.cars import NAME as PUBLISH
from appliance.anchor.follower import Follower, Progress, Schedule, Standing
from appliance.anchor.fork_proof import ForkProof
from appliance.anchor.publish import Publisher, secret_from
from appliance.anchor.stamps import NAME as TIMESTAMP
from appliance.anchor.store import EvidenceStore
from appliance.anchor.witnesses import NAME as WITNESS
from appliance.anchor.witnesses import CosignedCheckpoint, Witnesses
from appliance.config import schema
from appliance.config.publication import Publication
from appliance.config.timestamping import Timestamping
from appliance.crypto.hpke import read_recipient
from appliance.device.health import Check, Finding, Level
from appliance.evidence.cosignature import WitnessKey, WitnessPolicy
from appliance.ledger.archive import Archive
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import MINUTE_MS
from appliance.ports.block_store import BlockStore
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.timestamping import OpenNode, make_timestamps, open_node


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What followers remember, and how they reach their peers; `blocks` and `node` are None where not set up.

    Attributes:
        direct: for peers on this machine or the LAN.
        through_proxy: for all others; the same one where no proxy is set up.
    """

    store: EvidenceStore
    direct: aiohttp.ClientSession
    through_proxy: aiohttp.ClientSession
    blocks: BlockStore | None
    node: OpenNode | None

    def http(self, address: str) -> aiohttp.ClientSession:
        """By which a peer at `address` is asked."""
        return self.through_proxy if address.startswith("https://") else self.direct


@asynccontextmanager
async def open_outside(settings: schema.Settings) -> AsyncIterator[Outside]:
    """Open `evidence.db` and the clients; closed after every follower has ended."""
    async with AsyncExitStack() as stack:
        store = await EvidenceStore.open(settings.storage.path)
        stack.push_async_callback(store.close)
        direct = await stack.enter_async_context(_session(None))
        proxy = settings.outbound.proxy
        through_proxy = direct if proxy is None else await stack.enter_async_context(_session(proxy))
        blocks = None
        if settings.publication is not None:
            blocks = await _open_blocks(settings.publication)
            stack.push_async_callback(blocks.close)
        node = None
        if settings.timestamps is not None and settings.timestamps.node is not None:
            node = await open_node(settings.timestamps.node)
            stack.push_async_callback(node.chain.close)
        yield Outside(store=store, direct=direct, through_proxy=through_proxy, blocks=blocks, node=node)


def _session(proxy: str | None) -> aiohttp.ClientSession:
    """Nothing of one peer's is ever shown to another, and no proxy of the environment stands between."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, proxy=proxy)


async def _open_blocks(settings: Publication) -> BlockStore:
    opening = IpfsClient if settings.client == "ipfshttpclient" else IpfsHttp
    return await opening.open(api_base=settings.api_base, deadline_ms=settings.deadline_ms)


class Followers:
    """All followers of a box; none of them where nothing is set up."""

    def __init__(
        self,
        *,
        settings: schema.Settings,
        outside: Outside,
        ledger: Ledger,
        archive: Archive,
        store_key: bytes,
        checkpoints: CheckpointMaker | None,
        quarantine: Callable[[str], None],
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._outside = outside
        self._ledger = ledger
        self._archive = archive
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._followers: list[tuple[str, Follower]] = []
        self._witnesses: Witnesses | None = None
        self._proof = ForkProof(ledger, settings.storage.path)
        self._quarantine = quarantine
        self._checks: list[Check] = []
        if checkpoints is None and (settings.witnesses.named or settings.publication or settings.timestamps):
            self._checks.append(_no_notes)
        if settings.witnesses.named and checkpoints is not None:
            self._witnesses = self._add_witnesses(settings.witnesses, checkpoints)
        if settings.publication is not None and outside.blocks is not None and checkpoints is not None:
            self._add_publisher(settings.publication, outside.blocks, checkpoints, store_key)
        if settings.timestamps is not None and checkpoints is not None:
            self._add_timestamps(settings.timestamps, checkpoints)

    async def begin(self, supervisor: Supervisor) -> None:
        """Compare the log with what was witnessed before anything is sold, then follow it."""
        proven = await self._proof.kept()  # also where the settings name no witness any more
        if proven is not None:
            self._log.error("witness.fork_proven", reason=proven)
            self._quarantine(proven)
        if self._witnesses is not None:
            with suppress(Unavailable):  # quarantined, which is told there; or postponed to the first step
                await self._witnesses.check_stored()
        for name, follower in self._followers:
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
        return [*self._checks, *[_check(follower) for _, follower in self._followers]]

    def _add_witnesses(self, settings: schema.Witnesses, checkpoints: CheckpointMaker) -> Witnesses:
        prefixes, policy = read_witnesses(settings)
        witnesses = Witnesses(
            ledger=self._ledger,
            checkpoints=checkpoints,
            witnesses=[
                HttpWitness(name=name, prefix=prefix, http=self._outside.http(prefix))
                for name, prefix in prefixes.items()
            ],
            policy=policy,
            store=self._outside.store,
            proof=self._proof,
            quarantine=self._quarantine,
            clock=self._clock,
            metrics=self._metrics,
            log=self._log,
        )
        self._checks.append(lambda: disagreement_of(witnesses.disagreeing))
        # A witness is asked at most twice a round and for its checkpoint once, each time for 10 s.
        bound_ms = len(prefixes) * MINUTE_MS
        schedule = Schedule(every_ms=settings.every_ms, step_ms_max=bound_ms, late_after_ms=settings.late_after_ms)
        self._add(WITNESS, witnesses.step, schedule)
        return witnesses

    def _add_publisher(
        self, settings: Publication, blocks: BlockStore, checkpoints: CheckpointMaker, store_key: bytes
    ) -> None:
        publisher = Publisher(
            origin=self._ledger.statement.origin,
            archive=self._archive,
            checkpoints=checkpoints,
            blocks=blocks,
            recipient=read_recipient(settings.recipient_path.read_bytes()),
            secret=secret_from(store_key),
            store=self._outside.store,
            clock=self._clock,
            log=self._log,
        )
        # A publication has about 40 blocks; each is asked for once.
        schedule = Schedule(
            every_ms=settings.every_ms, step_ms_max=10 * MINUTE_MS, late_after_ms=settings.late_after_ms
        )
        self._add(PUBLISH, publisher.step, schedule)

    def _add_timestamps(self, settings: Timestamping, checkpoints: CheckpointMaker) -> None:
        timestamps = make_timestamps(
            settings,
            opened=self._outside.node,
            http=self._outside.http,
            checkpoints=checkpoints,
            store=self._outside.store,
            clock=self._clock,
            log=self._log,
        )
        # After a long time away there are many promises to ask for, and blocks to look through.
        schedule = Schedule(
            every_ms=settings.look_every_ms, step_ms_max=10 * MINUTE_MS, late_after_ms=settings.late_after_ms
        )
        self._add(TIMESTAMP, timestamps.step, schedule)

    def _add(self, name: str, step: Callable[[], Awaitable[Progress]], schedule: Schedule) -> None:
        follower = Follower(
            name=name,
            step=step,
            schedule=schedule,
            store=self._outside.store,
            newest=lambda: self._ledger.head.size,
            clock=self._clock,
            metrics=self._metrics,
            log=self._log,
            jitter=random.SystemRandom(),
        )
        self._followers.append((name, follower))


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


def _no_notes() -> Finding:
    return Finding(
        check="checkpoints",
        level=Level.COPING,
        sentence="This log has no key for checkpoints: it is of before its token could keep one. Nobody outside is"
        " asked; we sell on.",
        next_step="Rotate the log's keys: tillstone succession next-keys makes one for checkpoints too.",
    )


def disagreement_of(disagreeing: Mapping[str, str]) -> Finding:
    """Who outside claims a fork without proof: a liar, or the first sign of an old disk; a person must look."""
    if not disagreeing:
        return Finding(check="witnesses", level=Level.OK, sentence="No witness disagrees.")
    return Finding(
        check="witnesses",
        level=Level.COPING,
        sentence=f"{'; '.join(disagreeing.values())}: not counted, we sell on.",
        next_step="Compare the log with the other witnesses and with what auditors hold; ask who runs this witness, or"
        " take it out of the settings.",
    )


def _to_go(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'} to go"


def _check(follower: Follower) -> Check:
    return lambda: finding_of(follower.standing)


def finding_of(standing: Standing) -> Finding:
    """How a follower is, in plain words; the first failure is told at once, since the next try may be far off."""
    name = standing.name
    if not standing.failures:
        return Finding(check=name, level=Level.OK, sentence=f"Follower {name}: {_to_go(standing.lag_entries)}.")
    if not standing.is_late:
        return Finding(
            check=name,
            level=Level.COPING,
            sentence=f"Follower {name}: {standing.reason}; {_to_go(standing.lag_entries)}, next try in"
            f" {standing.next_ms // 1_000} s; we sell on.",
        )
    return Finding(
        check=name,
        level=Level.COPING,
        sentence=f"Follower {name} has not worked for {_hours(standing.silent_ms)}: {standing.reason}; we sell on.",
        next_step="See that the network is there and that the other side works; it is tried again by itself.",
    )


def _hours(silent_ms: int | None) -> str:
    return "its whole life" if silent_ms is None else f"{silent_ms / 3_600_000:.1f} hours"

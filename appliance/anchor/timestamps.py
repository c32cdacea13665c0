"""The follower that gets heads into Bitcoin blocks: through calendars, and by an own transaction when they fail.

Owns which head is stamped when, which way it goes, and when a timestamp counts as confirmed. Must never believe a
calendar: what it says of a block is compared with the node, and what is kept is verified as a stranger would.

* Decided, durable, then asked: a head's ways are rows before anybody is called, so a killed box asks the same again. A
  calendar that is asked twice promises the same; an own transaction is durable before it is sent (`anchoring.py`).
* What is anchored is SHA-256 of the note as the log signed it, so the signatures existed before the block too.
* Blocks can lose: what was confirmed lately is looked at again whenever the tip has moved.

Source: docs/formats/timestamp.md, docs/anchoring.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from appliance.anchor import stamps
from appliance.anchor.anchoring import CONFIRMATIONS, Anchoring
from appliance.anchor.follower import Progress
from appliance.anchor.stamps import OWN, Stamp, State
from appliance.anchor.store import EvidenceStore, StoredCheckpoint
from appliance.evidence.block import Network, decode_header
from appliance.evidence.ots import InBlock, Promised, Proof, Timestamp, grafted, without
from appliance.evidence.ots_file import decode_proof, decode_timestamp, encode_proof
from appliance.evidence.timestamp import verify_timestamp
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.model.errors import Rejected, Unavailable
from appliance.model.invariants import ensure
from appliance.model.limits import DAY_MS
from appliance.ports.chain import BlockHash, Chain
from appliance.ports.clock import Clock
from appliance.ports.timestamp import Calendar
from appliance.runtime.log import Log

STAMPS_PER_STEP: Final = 64
RECHECKED_MS: Final = 2 * DAY_MS
"""100 blocks take 17 hours; twice as long and some more, in case they are slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When heads are stamped.

    Attributes:
        every_ms: between two heads.
        fallback_after_ms: no block and no own transaction covers a head made since: anchor the newest by ourselves.
        late_after_ms: no block covers a head made since: the step fails, so that somebody looks.
    """

    every_ms: int
    fallback_after_ms: int
    late_after_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The chain, its network, and our own anchors on it where we have a key."""

    chain: Chain
    network: Network
    anchoring: Anchoring | None


class Timestamps:
    """One step of the follower `timestamp`."""

    def __init__(
        self,
        *,
        checkpoints: CheckpointMaker,
        calendars: Sequence[Calendar],
        node: Node | None,
        rules: Rules,
        store: EvidenceStore,
        clock: Clock,
        log: Log,
    ) -> None:
        self._checkpoints = checkpoints
        self._calendars = {calendar.address: calendar for calendar in calendars}
        self._node = node
        self._rules = rules
        self._store = store
        self._clock = clock
        self._log = log
        self._seen_tip: BlockHash | None = None

    async def step(self) -> Progress:
        """Decide on a head when it is time, move every stamp on, look again at what was confirmed.

        Raises:
            Unavailable: `timestamp_waiting`: something could not be asked or sent; the reasons stand in the detail.
                `timestamp_overdue`: everybody answers, and no block came for too long.
        """
        reasons: list[str] = []
        await self._attempt(self._follow_chain, reasons)
        await self._pick()
        await self._fall_back()
        for stamp in await self._store.read(lambda connection: stamps.unfinished(connection, STAMPS_PER_STEP)):
            await self._attempt(lambda: self._advance(stamp), reasons)  # noqa: B023 - awaited in the same round
        size = await self._store.read(stamps.attested_size)
        covered_ms = await self._store.read(stamps.covered_ms)
        if reasons:
            raise Unavailable("timestamp_waiting", "; ".join(reasons[:3]))
        if covered_ms is not None and self._clock.now_ms() - covered_ms > self._rules.late_after_ms:
            raise Unavailable("timestamp_overdue", f"no block covers an entry beyond the first {size}")
        return Progress(size=size)

    async def _attempt(self, part: Callable[[], Awaitable[None]], reasons: list[str]) -> None:
        """One peer's trouble must not hold up the others."""
        try:
            await part()
        except (Unavailable, Rejected) as trouble:
            if trouble.detail not in reasons:
                reasons.append(trouble.detail)

    # --- deciding ---

    async def _pick(self) -> None:
        newest = await self._store.read(stamps.newest_picked)
        if newest is not None and 0 <= self._clock.now_ms() - newest.made_ms < self._rules.every_ms:
            return
        head, note = await self._checkpoints.current_head()
        if newest is not None and head.size <= newest.size:
            return
        now_ms = self._clock.now_ms()
        stored = await self._store.add_checkpoint(
            StoredCheckpoint(size=head.size, root=head.root, note=note, made_ms=now_ms)
        )
        ways = list(self._calendars) or [OWN]
        await self._store.write(lambda connection: stamps.want(connection, stored.size, ways, now_ms))

    async def _fall_back(self) -> None:
        """Calendars have kept no promise for too long: the newest head goes by our own transaction too."""
        if self._node is None or self._node.anchoring is None or not self._calendars:
            return
        covered_ms = await self._store.read(stamps.covered_ms)
        newest = await self._store.read(stamps.newest_picked)
        now_ms = self._clock.now_ms()
        if newest is None or covered_ms is None or now_ms - covered_ms < self._rules.fallback_after_ms:
            return
        await self._store.write(lambda connection: stamps.want(connection, newest.size, [OWN], now_ms))

    # --- moving on ---

    async def _advance(self, stamp: Stamp) -> None:
        if stamp.way == OWN:
            await self._advance_own(stamp)
            return
        calendar = self._calendars.get(stamp.way)
        if calendar is not None and stamp.state is State.WANTED:
            stamp = await self._submit(stamp, calendar)
        elif calendar is not None and stamp.state is State.PENDING:
            stamp = await self._upgrade(stamp, calendar)
        if stamp.state is State.ATTESTED and self._node is not None:
            await self._confirm(stamp, self._node)

    async def _submit(self, stamp: Stamp, calendar: Calendar) -> Stamp:
        digest = hashlib.sha256(stamp.note).digest()
        timestamp = decode_timestamp(await calendar.submit(digest), digest)
        state = State.ATTESTED if _blocks(timestamp) else State.PENDING
        return await self._move(stamp, state, timestamp)

    async def _upgrade(self, stamp: Stamp, calendar: Calendar) -> Stamp:
        timestamp = _timestamp(stamp)
        for message, claim in list(timestamp.claims()):
            # Only a promise of this very calendar: another's address in it is somewhere that nobody chose.
            if isinstance(claim, Promised) and claim.uri.rstrip("/") == calendar.address:
                answer = await calendar.lookup(message)
                if answer is not None:
                    timestamp = grafted(timestamp, decode_timestamp(answer, message))
        return await self._move(stamp, State.ATTESTED, timestamp) if _blocks(timestamp) else stamp

    async def _confirm(self, stamp: Stamp, node: Node) -> None:
        """Six deep and true, or back to waiting when the block that it names is another."""
        timestamp = _timestamp(stamp)
        tip = await node.chain.tip()
        for message, height in _blocks(timestamp):
            if height + CONFIRMATIONS - 1 > tip.height:
                return  # too early to tell
            headers = await self._headers(node, height)
            if decode_header(headers[0]).merkle_root == message:
                await self._keep(stamp, timestamp, headers, node)
                return
        self._log.warning("timestamp.block_lost", size=stamp.size, way=stamp.way)
        await self._take_back(stamp)

    async def _advance_own(self, stamp: Stamp) -> None:
        if self._node is None or self._node.anchoring is None:
            return
        digest = hashlib.sha256(stamp.note).digest()
        anchoring = self._node.anchoring
        number = await self._store.read(lambda connection: stamps.own_anchor(connection, digest))
        if number is None:
            if not await anchoring.is_busy():
                now_ms = self._clock.now_ms()
                await anchoring.begin(
                    digest, lambda connection, _: stamps.move(connection, stamp, State.PENDING, now_ms, proof=None)
                )
            return
        settled = await anchoring.settled(number)
        if settled is not None:
            headers = await self._headers(self._node, settled.height)
            await self._keep(stamp, decode_timestamp(settled.timestamp, digest), headers, self._node)

    async def _keep(self, stamp: Stamp, timestamp: Timestamp, headers: list[bytes], node: Node) -> None:
        # What goes into a bundle is checked here exactly as a stranger will check it.
        proof = encode_proof(Proof(timestamp=timestamp))
        attested = verify_timestamp(proof, hashlib.sha256(stamp.note).digest(), headers, network=node.network)
        await self._move(stamp, State.CONFIRMED, timestamp, b"".join(headers))
        self._log.info("timestamp.confirmed", size=stamp.size, way=stamp.way, height=attested.height)

    # --- the chain ---

    async def _follow_chain(self) -> None:
        if self._node is None:
            return
        if self._node.anchoring is not None:
            await self._node.anchoring.tend()
        tip = await self._node.chain.tip()
        if tip.block_hash == self._seen_tip:
            return
        since_ms = self._clock.now_ms() - RECHECKED_MS
        recent = await self._store.read(
            lambda connection: stamps.confirmed_since(connection, since_ms, STAMPS_PER_STEP)
        )
        for stamp in recent:
            await self._recheck(stamp, self._node)
        self._seen_tip = tip.block_hash

    async def _recheck(self, stamp: Stamp, node: Node) -> None:
        header = decode_header(stamp.header_list[0])
        heights = [height for message, height in _blocks(_timestamp(stamp)) if message == header.merkle_root]
        if await node.chain.block_hash(heights[0]) == header.block_hash:
            return
        self._log.warning("timestamp.block_lost", size=stamp.size, way=stamp.way)
        await self._take_back(stamp)

    async def _take_back(self, stamp: Stamp) -> None:
        """The block is not on the best chain: what is left is the promise, or our own anchor on its way again."""
        left = without(_timestamp(stamp), lambda claim: isinstance(claim, InBlock))
        state = State.PENDING if left is not None or stamp.way == OWN else State.WANTED
        await self._move(stamp, state, left)

    async def _headers(self, node: Node, height: int) -> list[bytes]:
        headers = []
        for at in range(height, height + CONFIRMATIONS):
            block_hash = await node.chain.block_hash(at)
            header = None if block_hash is None else await node.chain.header(block_hash)
            if header is None:
                raise Unavailable("chain_behind", f"the node does not have the block at {at}")
            headers.append(header)
        return headers

    async def _move(self, stamp: Stamp, state: State, timestamp: Timestamp | None, headers: bytes = b"") -> Stamp:
        proof = None if timestamp is None else encode_proof(Proof(timestamp=timestamp))
        now_ms = self._clock.now_ms()
        await self._store.write(
            lambda connection: stamps.move(connection, stamp, state, now_ms, proof=proof, headers=headers)
        )
        return replace(stamp, state=state, proof=proof, headers=headers)


def _timestamp(stamp: Stamp) -> Timestamp:
    ensure(stamp.proof is not None, "a stamp that was promised or attested has a proof")
    return decode_proof(stamp.proof or b"").timestamp


def _blocks(timestamp: Timestamp) -> list[tuple[bytes, int]]:
    """Each block that the timestamp names: the Merkle root it needs, the height."""
    return [(message, claim.height) for message, claim in timestamp.claims() if isinstance(claim, InBlock)]

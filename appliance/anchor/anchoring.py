"""Puts digests into Bitcoin blocks by transactions of our own, each digest exactly once.

Owns the order: the signed transaction is durable before a node sees it, so that whoever is killed sends the same bytes
again. One anchor waits at a time; the next spends its change, so that anchors form one line of coins.

* A fee bump is a new version that spends the same coin: of all versions one block can hold only one, and whichever is
  mined is the anchor.
* Blocks are looked through by hash, from the last one known. When that one lost, every anchor of the last 100 blocks is
  looked up again; what lost its block waits, is sent again, and gets a new path from its new block.
* A coin that a reorganisation replaced (another version of the anchor before was mined) is replaced in a new version.

The box uses it as a fallback, the calendar server (provisioning/upstream) for many boxes at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.anchor import anchors
from appliance.anchor.anchors import Anchor, Mined, Scanned, Store, Version
from appliance.evidence.block import decode_header, merkle_steps, shown
from appliance.evidence.ots import InBlock, timestamp_through
from appliance.evidence.ots_file import encode_timestamp
from appliance.evidence.transaction import (
    CHANGE_INDEX,
    DUST_SAT,
    AnchorKey,
    AnchorTransaction,
    anchor_transaction,
    steps_to_id,
    virtual_bytes,
)
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import DAY_MS, HOUR_MS
from appliance.ports.chain import Block, BlockHash, Chain, Coin, Outpoint, TransactionId
from appliance.ports.clock import Clock
from appliance.runtime.log import Log

CONFIRMATIONS: Final = 6
REORGANISED_BLOCKS_MAX: Final = (
    100  # a miner's own subsidy may not be spent earlier: the network plans for no deeper one
)
SCANNED_BLOCKS_MAX: Final = 200  # of one step
VERSIONS_MAX: Final = 20
RATE_MIN: Final = 1_000  # satoshi per 1,000 virtual bytes: what nodes relay


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """What an anchor may cost.

    Attributes:
        per_day_max_sat: of all anchors of 24 hours together.
        rate_default: satoshi per 1,000 virtual bytes while the node cannot tell.
        within_blocks: how soon it should be mined.
        bump_after_ms: an anchor that still waits gets a version with a higher fee.
    """

    per_day_max_sat: int
    rate_default: int = 5_000
    within_blocks: int = 6
    bump_after_ms: int = 2 * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """An anchor deep enough in the best chain; `timestamp` leads from its digest to the block."""

    height: int
    block_hash: BlockHash
    timestamp: bytes


class Anchoring:
    """One line of anchors, one key, one node."""

    def __init__(
        self,
        *,
        store: Store,
        chain: Chain,
        key: AnchorKey,
        funds: Sequence[Outpoint],
        fees: Fees,
        clock: Clock,
        log: Log,
    ) -> None:
        """`funds`: outputs paid to the key's address, spent in this order as they are needed."""
        self._store = store
        self._chain = chain
        self._key = key
        self._funds = tuple(funds)
        self._fees = fees
        self._clock = clock
        self._log = log

    async def tend(self) -> None:
        """Follow the chain towards its tip, and see the oldest waiting anchor into a block.

        Raises:
            Unavailable, Rejected: as `ports/chain.py`; `chain_behind`: the node knows fewer blocks than it did.
        """
        if not await self._follow():
            return
        waiting = await self._store.read(anchors.oldest_waiting)
        if waiting is not None:
            await self._push(waiting)

    async def is_busy(self) -> bool:
        """Whether an anchor waits for its block: then no other begins."""
        return await self._store.read(anchors.oldest_waiting) is not None

    async def begin(self, digest: bytes, claim: Callable[[sqlite3.Connection, int], None]) -> None:
        """Make the anchor of `digest` durable, then send it. A failed sending is `tend`'s to repeat.

        Args:
            claim: runs in the same transaction with the anchor's number: whoever asked notes it there.
        Raises:
            Rejected: `anchor_coin_missing`, `anchor_fee_cap_reached`; nothing was written.
            Unavailable: `anchor_busy`; nothing was written. Otherwise as `tend`, and nothing was written.
        """
        if await self.is_busy():
            raise Unavailable("anchor_busy", "another anchor still waits for its block")
        tip = await self._chain.tip()
        rate = await self._rate()
        coins = await self._coins(rate)
        fee_sat = _fee(rate, len(coins))
        await self._check_cap(fee_sat, without=0)
        made_ms = self._clock.now_ms()
        transaction = anchor_transaction(digest, coins, fee_sat=fee_sat, key=self._key)

        def record(connection: sqlite3.Connection) -> Version:
            number = anchors.add_anchor(connection, digest, made_ms)
            version = _version(number, 0, transaction, coins, made_ms)
            anchors.add_version(connection, version)
            if anchors.scanned(connection) is None:
                anchors.set_scanned(connection, Scanned(height=tip.height, block_hash=tip.block_hash))
            claim(connection, number)
            return version

        version = await self._store.write(record)
        self._log.info("anchor.made", anchor=version.anchor, fee_sat=fee_sat, transaction=shown(version.transaction_id))
        try:
            await self._chain.broadcast(version.raw, version.transaction_id)
        except (Unavailable, Rejected) as failure:
            self._log.warning("anchor.not_sent", anchor=version.anchor, error=failure)

    async def settled(self, number: int) -> Settled | None:
        """The anchor `number`, once it has six confirmations as far as `tend` has looked."""
        anchor, at = await self._store.read(
            lambda connection: (anchors.anchor(connection, number), anchors.scanned(connection))
        )
        mined = anchor.mined
        if mined is None or at is None or at.height - mined.height + 1 < CONFIRMATIONS:
            return None
        return Settled(height=mined.height, block_hash=mined.block_hash, timestamp=mined.timestamp)

    # --- following the chain ---

    async def _follow(self) -> bool:
        """Look through blocks up to the tip; whether it was reached."""
        at = await self._store.read(anchors.scanned)
        tip = await self._chain.tip()
        if at is None:
            return True
        if tip.height < at.height:
            raise Unavailable("chain_behind", f"expected a node of {at.height} blocks or more, saw {tip.height}")
        if await self._chain.block_hash(at.height) != at.block_hash:
            at = await self._unwind(at)
        waiting = await self._store.read(anchors.waiting_versions)
        if not waiting:
            await self._keep(Scanned(height=tip.height, block_hash=tip.block_hash), {})
            return True
        found: dict[int, Mined] = {}
        for height in range(at.height + 1, min(tip.height, at.height + SCANNED_BLOCKS_MAX) + 1):
            block_hash = await self._hash(height)
            block = await self._chain.block(block_hash)
            if block is None:
                raise Unavailable("chain_behind", f"the node does not have the block at {height}")
            if decode_header(block.header).previous != at.block_hash:
                return False  # the chain was reorganised while we read; the next step sees it
            found |= _found(height, block_hash, block, waiting)
            at = Scanned(height=height, block_hash=block_hash)
        await self._keep(at, found)
        return at.height == tip.height

    async def _hash(self, height: int) -> BlockHash:
        block_hash = await self._chain.block_hash(height)
        if block_hash is None:
            raise Unavailable("chain_behind", f"the node has no block at {height}")
        return block_hash

    async def _keep(self, at: Scanned, found: dict[int, Mined]) -> None:
        def record(connection: sqlite3.Connection) -> None:
            for number, mined in found.items():
                anchors.set_mined(connection, number, mined)
            anchors.set_scanned(connection, at)

        await self._store.write(record)
        for number, mined in found.items():
            self._log.info("anchor.mined", anchor=number, height=mined.height, block=shown(mined.block_hash))

    async def _unwind(self, at: Scanned) -> Scanned:
        """Go back behind the fork; anchors whose block lost wait again."""
        height = max(0, at.height - REORGANISED_BLOCKS_MAX)
        base = await self._hash(height)
        lost = []
        for anchor in await self._store.read(lambda connection: anchors.mined_above(connection, height)):
            if anchor.mined and await self._chain.block_hash(anchor.mined.height) != anchor.mined.block_hash:
                lost.append(anchor.number)
        back = Scanned(height=height, block_hash=base)

        def record(connection: sqlite3.Connection) -> None:
            for number in lost:
                anchors.set_waiting(connection, number)
            anchors.set_scanned(connection, back)

        await self._store.write(record)
        self._log.warning("chain.reorganised", height=at.height, anchors_lost=len(lost))
        return back

    # --- getting into a block ---

    async def _push(self, anchor: Anchor) -> None:
        known = await self._versions(anchor.number)
        newest = known[-1]
        coins = tuple([await self._true_coin(coin) for coin in newest.coins])
        if coins != newest.coins:
            newest = await self._add_version(anchor, newest, coins, newest.fee_sat)
        elif self._clock.now_ms() - newest.made_ms >= self._fees.bump_after_ms and len(known) < VERSIONS_MAX:
            newest = await self._bumped(anchor, newest)
        await self._send(newest, known)

    async def _bumped(self, anchor: Anchor, newest: Version) -> Version:
        size = virtual_bytes(len(newest.coins))
        # A replacement pays for its own relay too (BIP 125, rule 4).
        fee_sat = max(
            _fee(await self._rate(), len(newest.coins)), newest.fee_sat + newest.fee_sat // 4, newest.fee_sat + size
        )
        try:
            await self._check_cap(fee_sat, without=anchor.number)
            return await self._add_version(anchor, newest, newest.coins, fee_sat)
        except Rejected as refusal:
            self._log.warning("anchor.not_bumped", anchor=anchor.number, error=refusal)
            return newest

    async def _add_version(self, anchor: Anchor, newest: Version, coins: Sequence[Coin], fee_sat: int) -> Version:
        transaction = anchor_transaction(anchor.digest, coins, fee_sat=fee_sat, key=self._key)
        version = _version(anchor.number, newest.version + 1, transaction, coins, self._clock.now_ms())
        await self._store.write(lambda connection: anchors.add_version(connection, version))
        self._log.info("anchor.replaced", anchor=anchor.number, version=version.version, fee_sat=fee_sat)
        return version

    async def _send(self, newest: Version, older: Sequence[Version]) -> None:
        if await self._chain.is_waiting(newest.transaction_id):
            return
        try:
            await self._chain.broadcast(newest.raw, newest.transaction_id)
        except Rejected as refusal:
            if refusal.code != "transaction_refused":
                raise
            for version in older:
                if await self._chain.is_waiting(version.transaction_id):
                    return  # this node replaces nothing; the older version is as good an anchor
            raise

    async def _true_coin(self, coin: Coin) -> Coin:
        """The coin, or the one that took its place: the change of the version that was mined."""
        parent = await self._store.read(lambda connection: anchors.anchor_of(connection, coin.outpoint.transaction_id))
        if parent is None or parent.mined is None or parent.mined.transaction_id == coin.outpoint.transaction_id:
            return coin
        return await self._change(parent.number, parent.mined.transaction_id)

    # --- money ---

    async def _rate(self) -> int:
        rate = await self._chain.fee_rate(self._fees.within_blocks)
        return max(RATE_MIN, self._fees.rate_default if rate is None else rate)

    async def _coins(self, rate: int) -> list[Coin]:
        """The change of the last anchor; when that is used up, the next coin of the settings beside it."""
        newest = await self._store.read(anchors.newest_anchor)
        coins = []
        if newest is not None and newest.mined is not None:
            coins.append(await self._change(newest.number, newest.mined.transaction_id))
        if not coins or coins[0].value_sat < _fee(rate, 1) + DUST_SAT:
            coins.append(await self._next_fund())
        return coins

    async def _next_fund(self) -> Coin:
        spent = await self._store.read(lambda connection: anchors.spent_outpoints(connection, self._key.script))
        for outpoint in self._funds:
            coin = None if outpoint in spent else await self._chain.coin(outpoint)
            if coin is not None and coin.script == self._key.script:
                return coin
        raise Rejected("anchor_coin_missing", "expected an unspent coin at the anchoring address, saw none")

    async def _change(self, number: int, transaction_id: TransactionId) -> Coin:
        version = next(each for each in await self._versions(number) if each.transaction_id == transaction_id)
        outpoint = Outpoint(transaction_id=transaction_id, index=CHANGE_INDEX)
        return Coin(outpoint=outpoint, value_sat=version.change_sat, script=self._key.script)

    async def _versions(self, number: int) -> list[Version]:
        return await self._store.read(lambda connection: anchors.versions(connection, number, self._key.script))

    async def _check_cap(self, fee_sat: int, *, without: int) -> None:
        since_ms = self._clock.now_ms() - DAY_MS
        others = await self._store.read(lambda connection: anchors.fees_since(connection, since_ms, without))
        if others + fee_sat > self._fees.per_day_max_sat:
            raise Rejected(
                "anchor_fee_cap_reached",
                f"expected at most {self._fees.per_day_max_sat} sat a day, this would make {others + fee_sat}",
            )


def _found(
    height: int, block_hash: BlockHash, block: Block, waiting: dict[TransactionId, tuple[int, bytes, bytes]]
) -> dict[int, Mined]:
    found = {}
    for index, transaction_id in enumerate(block.transaction_ids):
        if transaction_id not in waiting:
            continue
        number, stripped, digest = waiting[transaction_id]
        steps = steps_to_id(stripped, digest) + merkle_steps(block.transaction_ids, index)
        timestamp = encode_timestamp(timestamp_through(digest, steps, InBlock(height=height)))
        found[number] = Mined(height=height, block_hash=block_hash, transaction_id=transaction_id, timestamp=timestamp)
    return found


def _version(number: int, version: int, transaction: AnchorTransaction, coins: Sequence[Coin], made_ms: int) -> Version:
    return Version(
        anchor=number,
        version=version,
        transaction_id=transaction.transaction_id,
        raw=transaction.raw,
        stripped=transaction.stripped,
        coins=tuple(coins),
        change_sat=transaction.change.value_sat,
        fee_sat=transaction.fee_sat,
        made_ms=made_ms,
    )


def _fee(rate: int, coin_count: int) -> int:
    return -(-rate * virtual_bytes(coin_count) // 1_000)

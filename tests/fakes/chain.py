"""A Bitcoin node in memory: satisfies `ports/chain.py` and the contract suite of the real node, with switches.

Unlike the real node of our tests it replaces a waiting transaction by one that pays more (BIP 125), as Core does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from appliance.evidence.block import REGTEST
from appliance.model.errors import Rejected, Unavailable
from appliance.ports.chain import Block, BlockHash, Coin, Outpoint, Tip, TransactionId
from tests.raw_transaction import RawTransaction, read_transaction
from tests.regtest import Mined, mine


class FakeChain:
    """Blocks, coins and waiting transactions.

    Switches: `is_away` (nothing is answered), `loses_answers` (a broadcast happens and fails), `hangs` (never answers),
    `refuses` (no broadcast is taken), `replaces` (a higher fee takes a waiting transaction's place), `rate` (what
    `fee_rate` says). A second opinion listens at `on_block` (whole blocks) and `on_tip` (which branch won).
    """

    def __init__(self) -> None:
        self._blocks: dict[BlockHash, Mined] = {}
        self._best: list[BlockHash] = [REGTEST.genesis]
        self._bodies: dict[BlockHash, tuple[RawTransaction, ...]] = {}
        self._known: dict[TransactionId, RawTransaction] = {}
        self.waiting: dict[TransactionId, RawTransaction] = {}
        self.broadcasts: list[TransactionId] = []
        self.on_block: Callable[[bytes], None] = lambda _block: None
        self.on_tip: Callable[[BlockHash], None] = lambda _tip: None
        self.is_away = False
        self.loses_answers = False
        self.hangs = False
        self.refuses = False
        self.replaces = True
        self.rate: int | None = 2_000

    # --- the port ---

    async def tip(self) -> Tip:
        await self._answer()
        return Tip(height=len(self._best) - 1, block_hash=self._best[-1])

    async def block_hash(self, height: int) -> BlockHash | None:
        await self._answer()
        return self._best[height] if height < len(self._best) else None

    async def header(self, block_hash: BlockHash) -> bytes | None:
        block = await self.block(block_hash)
        return None if block is None else block.header

    async def block(self, block_hash: BlockHash) -> Block | None:
        await self._answer()
        mined = self._blocks.get(block_hash)
        return None if mined is None else Block(header=mined.header, transaction_ids=mined.transaction_ids)

    async def coin(self, outpoint: Outpoint) -> Coin | None:
        await self._answer()
        return self._coins().get(outpoint)

    async def is_waiting(self, transaction_id: TransactionId) -> bool:
        await self._answer()
        return transaction_id in self.waiting

    async def fee_rate(self, blocks: int) -> int | None:
        await self._answer()
        return self.rate

    async def broadcast(self, transaction: bytes, transaction_id: TransactionId) -> None:
        await self._answer()
        self.broadcasts.append(transaction_id)
        if self.refuses or not self._take(transaction_id, read_transaction(transaction)):
            raise Rejected("transaction_refused", "the fake does not take it")
        if self.loses_answers:
            raise Unavailable("chain_away", "the fake was told to lose the answer")

    async def close(self) -> None:
        return None

    # --- the hands of a test ---

    def mine(self, count: int = 1, *, script: bytes = b"\x51", only: Sequence[TransactionId] | None = None) -> None:
        """Blocks with what waits, or with `only` these of all transactions ever seen."""
        for _ in range(count):
            chosen = list(self.waiting) if only is None else list(only)
            self._extend(self._best[-1], [self._known[each] for each in chosen], script=script)
        self.on_tip(self._best[-1])

    def reorganise(self, depth: int, blocks: Sequence[Sequence[TransactionId]]) -> None:
        """Replace the last `depth` blocks by these; what they held and these do not waits again."""
        dropped = self._best[len(self._best) - depth :]
        fork = self._best[len(self._best) - depth - 1]
        self._best = self._best[: len(self._best) - depth]
        parent = fork
        for at, ids in enumerate(blocks, start=1):
            parent = self._extend(parent, [self._known[each] for each in ids], salt=1_000 + at + len(self._blocks))
        self.on_tip(self._best[-1])
        for block_hash in dropped:
            for transaction in self._bodies[block_hash]:
                self._take(transaction.transaction_id, transaction)

    def subsidy(self, height: int) -> Coin:
        """The coin that the block at `height` made."""
        return self._blocks[self._best[height]].subsidy

    def forget(self, depth: int) -> None:
        """Know `depth` blocks less, as a node that starts over does."""
        del self._best[len(self._best) - depth :]

    @property
    def anchors(self) -> list[bytes]:
        """The digests that transactions of the best chain carry, oldest first."""
        return [each.digest for each in self._confirmed() if each.digest is not None]

    @property
    def confirmed_anchors(self) -> list[RawTransaction]:
        """Those transactions."""
        return [each for each in self._confirmed() if each.digest is not None]

    # --- inside ---

    def _extend(
        self, parent: BlockHash, transactions: Sequence[RawTransaction], *, script: bytes = b"\x51", salt: int = 0
    ) -> BlockHash:
        height = len(self._best)
        mined = mine(
            height=height,
            previous=parent,
            transactions=[(each.raw, each.stripped) for each in transactions],
            script=script,
            salt=salt,
        )
        self._blocks[mined.block_hash] = mined
        self._bodies[mined.block_hash] = tuple(transactions)
        self._best.append(mined.block_hash)
        self.on_block(mined.encoded)
        spent = {outpoint for each in transactions for outpoint in each.inputs}
        for transaction_id, waiting in list(self.waiting.items()):
            if spent & set(waiting.inputs):
                del self.waiting[transaction_id]
        return mined.block_hash

    def _take(self, transaction_id: TransactionId, transaction: RawTransaction) -> bool:
        self._known[transaction_id] = transaction
        if any(each.transaction_id == transaction_id for each in self._confirmed()):
            return True
        available = self._coins() | _outputs(self.waiting.values())
        if any(outpoint not in available for outpoint in transaction.inputs):
            return False
        rivals = [
            (known_id, known)
            for known_id, known in self.waiting.items()
            if known_id != transaction_id and set(known.inputs) & set(transaction.inputs)
        ]
        if any(
            sum(out[0] for out in known.outputs) <= sum(out[0] for out in transaction.outputs) for _, known in rivals
        ):
            return False  # a replacement pays more, so it leaves less
        if rivals and not self.replaces:
            return False
        for known_id, _ in rivals:
            del self.waiting[known_id]
        self.waiting[transaction_id] = transaction
        return True

    def _confirmed(self) -> list[RawTransaction]:
        return [each for block_hash in self._best[1:] for each in self._bodies[block_hash]]

    def _coins(self) -> dict[Outpoint, Coin]:
        coins = {coin.outpoint: coin for coin in (self._blocks[each].subsidy for each in self._best[1:])}
        coins |= _outputs(self._confirmed())
        for transaction in self._confirmed():
            for outpoint in transaction.inputs:
                coins.pop(outpoint, None)
        return coins

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_away:
            raise Unavailable("chain_away", "the fake was told to be away")


def _outputs(transactions: Iterable[RawTransaction]) -> dict[Outpoint, Coin]:
    return {outpoint: coin for each in transactions for outpoint, coin in each.coins.items()}

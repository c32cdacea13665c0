"""A Bitcoin node: what the core asks of a chain of blocks.

Hashes are in the byte order in which they are computed and stand in a header; only people and RPC turn them round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType, Protocol

BlockHash = NewType("BlockHash", bytes)
TransactionId = NewType("TransactionId", bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """The last block of the best chain."""

    height: int
    block_hash: BlockHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block without its transactions: `header` (80 bytes) and their ids in order, proven against the Merkle root."""

    header: bytes
    transaction_ids: tuple[TransactionId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outpoint:
    """One output of a transaction."""

    transaction_id: TransactionId
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coin:
    """An output that nobody has spent, with what it is worth."""

    outpoint: Outpoint
    value_sat: int
    script: bytes


class Chain(Protocol):
    """One node, on one network.

    Every verb raises Unavailable when the node cannot be asked now (`chain_away`) and when it answers what cannot be
    true (`chain_answer_unreadable`), Rejected when it does not let us in (`chain_credential_refused`) or belongs to
    another network (`chain_other_network`).
    """

    async def tip(self) -> Tip:
        """The best chain's last block."""

    async def block_hash(self, height: int) -> BlockHash | None:
        """The best chain's block at `height`; None above the tip."""

    async def header(self, block_hash: BlockHash) -> bytes | None:
        """The header (80 bytes) of a block, also of one that lost; None if the node has never seen it."""

    async def block(self, block_hash: BlockHash) -> Block | None:
        """The same with its transactions; None also when the node has pruned it."""

    async def coin(self, outpoint: Outpoint) -> Coin | None:
        """The output, if it is in the best chain and nothing there spends it."""

    async def is_waiting(self, transaction_id: TransactionId) -> bool:
        """Whether the transaction waits in the node for a block."""

    async def fee_rate(self, blocks: int) -> int | None:
        """Satoshi per 1,000 virtual bytes for a place within `blocks` blocks; None while the node cannot tell."""

    async def broadcast(self, transaction: bytes, transaction_id: TransactionId) -> None:
        """Hand a signed transaction to the network; handing it in again changes nothing.

        On return the node holds it, waiting or in a block.

        Raises:
            Rejected: `transaction_refused`: the node does not take it (spent input, fee too low, no replacement).
        """

    async def close(self) -> None:
        """Give up the connections."""

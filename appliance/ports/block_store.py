"""What the core asks of a place that keeps blocks by their content address, outside the box.

Owns the questions. Must never believe an answer: whoever asks compares addresses and bytes with its own.

Every question may be asked again: an address names its content, so what is kept twice is kept once.
"""

from __future__ import annotations

from typing import Protocol

from appliance.model.ids import Cid


class BlockStore(Protocol):
    """A store of blocks; every verb ends within the store's own deadline.

    Every verb raises:
        Unavailable: `block_store_away`: no connection, no answer in time, or an answer cut short.
        Rejected: `block_store_refused`: it answered, and not as it must.
    """

    async def keep(self, car: bytes) -> Cid:
        """Take all blocks of a CAR and keep what its root links to; returns the root that the store names."""
        ...

    async def block(self, cid: Cid) -> bytes:
        """The bytes that the store has for `cid`, at most a block's size, not compared with the address.

        Raises:
            Rejected: `block_missing`: the store says that it cannot find the block.
        """
        ...

    async def is_kept(self, cid: Cid) -> bool:
        """Whether the store promises to keep `cid` and everything linked from it."""
        ...

    async def close(self) -> None:
        """Release connections; nothing is asked afterwards."""
        ...

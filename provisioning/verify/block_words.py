"""What is said of the block under a head: how sure it is, what it does not show, when it says it was made.

Owns the wording, and how many confirmations are enough unless somebody says otherwise. Decides about no proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from appliance.evidence.block import MAINNET, Network, shown
from appliance.evidence.timestamp import Attested
from provisioning.verify.wording import time_text

CONFIRMATIONS_WANTED: Final = 6
"""The block and five on top: what Bitcoin's makers call confirmed (docs/formats/timestamp.md section 5)."""
_AHEAD_S_MAX: Final = 7_200
"""Nodes take no block whose time is more than this ahead of their own."""


def block_text(block: Attested, network: Network) -> str:
    """The step: which block, on which chain, and what stands on it."""
    return (
        f"block {block.height} of {network.name}, {shown(block.block_hash)}; {confirmations_text(block)}, each header"
        " with its work"
    )


def confirmations_text(block: Attested) -> str:
    """`6 confirmations (the block and 5 on top)`."""
    word = "confirmation" if block.confirmations == 1 else "confirmations"
    return f"{block.confirmations} {word} (the block and {block.confirmations - 1} on top)"


def block_moment(block: Attested, size: int) -> str:
    """The line of the timeline."""
    return (
        f"{time_text(1_000 * block.time_s)} by the miner's clock: the log of {size} entries is fixed by block"
        f" {block.height}, with {block.confirmations - 1} blocks on top"
    )


def block_caveats(block: Attested, network: Network, *, wanted: int, now_ms: int) -> Iterator[str]:
    """What a reader must know before he leans on this block."""
    if network != MAINNET:
        yield f"{network.name}: anybody can make these blocks, so they prove that the machinery works, and no more"
    if block.confirmations < wanted:
        yield f"{confirmations_text(block)} of {wanted}: fewer are easier to forge, and may still be replaced"
    ahead_s = block.time_s - now_ms // 1_000
    if ahead_s > _AHEAD_S_MAX:
        yield (
            f"its time lies {ahead_s // 60} minutes after this computer's clock, more than the two hours that Bitcoin"
            " lets a miner's clock run ahead: this clock is slow, or the time is made up"
        )
    elif ahead_s > 0:
        yield (
            f"its time lies {ahead_s} seconds after this computer's clock; Bitcoin lets a miner's clock run up to two"
            " hours ahead"
        )

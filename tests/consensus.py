"""A second opinion on blocks: Bitcoin Core's consensus engine (py-bitcoinkernel), on regtest, in memory.

It knows nothing of our code: it checks proof of work, scripts, signatures, witness commitments, money, and which of
two branches wins. It raises where a block breaks a rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pbk

from appliance.ports.chain import BlockHash


class ConsensusEngine:
    """One chain state."""

    def __init__(self, manager: pbk.ChainstateManager) -> None:
        self._manager = manager

    def take(self, block: bytes) -> None:
        """Judge a block; one whose form is wrong raises, one that spends wrongly is not followed."""
        self._manager.process_block(pbk.Block(block))

    def expect(self, tip: BlockHash) -> None:
        """Fail unless the branch that ends in `tip` is valid and has won."""
        chain = self._manager.get_active_chain()
        entry = chain.block_tree_entries[chain.height]
        assert bytes(entry.block_hash) == tip, f"the engine stays at height {chain.height}"


@contextmanager
def consensus_engine(folder: Path) -> Iterator[ConsensusEngine]:
    """An engine that knows the first block."""
    options = pbk.ContextOptions()
    options.set_chainparams(pbk.ChainParameters(pbk.ChainType.REGTEST))
    settings = pbk.ChainstateManagerOptions(pbk.Context(options), str(folder), str(folder / "blocks"))
    settings.update_block_tree_db_in_memory(True)
    settings.update_chainstate_db_in_memory(True)
    manager = pbk.ChainstateManager(settings)
    yield ConsensusEngine(manager)

"""The real Bitcoin node for tests, and the hands to steer it: mine, make a rival branch, pay the anchoring address.

Owns nothing that production uses; it speaks RPC by itself, so that a mistake of the adapter is not made twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.config.secret import Secret
from appliance.evidence.block import REGTEST, shown
from appliance.evidence.transaction import AnchorKey
from appliance.ports.chain import BlockHash, Coin, Outpoint, TransactionId
from provisioning.sandbox.bitcoin_node import BitcoinNode, bitcoin_node
from provisioning.sandbox.children import ChildFailed
from tests.regtest import Mined, mine

SEGWIT_HEIGHT = 432
"""From this block on bcoin's regtest looks at witnesses; its fee estimator never speaks."""
KEY_NUMBER = bytes(31) + b"\x07"
KEY = AnchorKey(KEY_NUMBER)


@contextmanager
def running_node(folder: Path) -> Iterator[BitcoinNode]:
    """The node, or a skip that names what is missing."""
    try:
        with bitcoin_node(folder) as node:
            yield node
    except ChildFailed as failure:
        pytest.skip(f"the Bitcoin node is missing: {failure}")


# Of all nodes together, which is harmless: each begins with more than 300 coins that may be spent.
_fresh_heights = itertools.count(1)


class Miner:
    """Steers one node. Every block that it lets the node mine pays `KEY`."""

    def __init__(self, node: BitcoinNode) -> None:
        self._node = node

    @property
    def credential(self) -> Secret:
        return Secret(self._node.credential.encode())

    @property
    def url(self) -> str:
        return self._node.url

    async def rpc(self, method: str, *parameters: Any) -> Any:
        user, _, password = self._node.credential.partition(":")
        body = {"method": method, "params": parameters, "id": 1}
        async with (
            aiohttp.ClientSession(headers={"Authorization": aiohttp.encode_basic_auth(user, password)}) as http,
            http.post(self._node.url, json=body) as answer,
        ):
            found = await answer.json()
        assert found["error"] is None, found["error"]
        return found["result"]

    async def begin(self) -> None:
        """Enough blocks for witnesses to count, and coins of `KEY` that may be spent."""
        missing = SEGWIT_HEIGHT + 8 - await self.height()
        if missing > 0:
            await self.mine(missing)

    async def mine(self, count: int = 1) -> list[BlockHash]:
        """Blocks with whatever waits in the node."""
        # bcoin 1.0.2 has a prefix of its own for what is "bcrt" everywhere else.
        hashes = await self.rpc("generatetoaddress", count, KEY.address(replace(REGTEST, address_prefix="rb")))
        return [BlockHash(bytes.fromhex(each)[::-1]) for each in hashes]

    async def height(self) -> int:
        height: int = await self.rpc("getblockcount")
        return height

    async def hash_at(self, height: int) -> BlockHash:
        return BlockHash(bytes.fromhex(await self.rpc("getblockhash", height))[::-1])

    async def branch(
        self, *, from_height: int, blocks: Sequence[Sequence[tuple[bytes, bytes]]], salt: int = 1
    ) -> list[Mined]:
        """Hand in blocks on top of `from_height`, each with exactly these transactions as (raw, stripped)."""
        previous = await self.hash_at(from_height)
        time_s: int = (await self.rpc("getblockheader", shown(previous)))["time"]
        made: list[Mined] = []
        for at, transactions in enumerate(blocks, start=1):
            block = mine(
                height=from_height + at,
                previous=previous,
                transactions=transactions,
                script=KEY.script,
                salt=salt,
                time_s=time_s + at,
            )
            refusal = await self.rpc("submitblock", block.encoded.hex())
            assert refusal is None or refusal.startswith("inconclusive"), refusal
            made.append(block)
            previous = block.block_hash
        return made

    async def coin(self, height: int) -> Coin:
        """The subsidy of the block at `height`, which pays `KEY`."""
        block = await self.rpc("getblock", shown(await self.hash_at(height)))
        transaction_id = TransactionId(bytes.fromhex(block["tx"][0])[::-1])
        out = await self.rpc("gettxout", block["tx"][0], 0)
        value_sat = round(float(out["value"]) * 100_000_000)
        return Coin(outpoint=Outpoint(transaction_id=transaction_id, index=0), value_sat=value_sat, script=KEY.script)

    async def fresh_coin(self) -> Coin:
        """One that no test has had."""
        return await self.coin(next(_fresh_heights))

    async def block_size(self, height: int) -> int:
        """How many transactions a block holds."""
        block = await self.rpc("getblock", shown(await self.hash_at(height)))
        return len(block["tx"])

"""One promise list for a Bitcoin node: the fake, and the real one through aiohttp and through python-bitcoinrpc."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import pytest

from appliance.adapters.bitcoin_rpc import BitcoinRpc
from appliance.adapters.bitcoin_rpc_lib import open_library
from appliance.config.secret import Secret
from appliance.evidence.block import MAINNET, REGTEST, decode_header, merkle_root
from appliance.evidence.transaction import AnchorTransaction, anchor_transaction
from appliance.model.errors import Rejected, Unavailable
from appliance.ports.chain import BlockHash, Chain, Coin, Outpoint, TransactionId
from provisioning.sandbox.bitcoin_node import BitcoinNode
from tests.bitcoin import KEY, Miner, running_node
from tests.fakes.chain import FakeChain


class Rig(Protocol):
    """A chain and the hands to steer it."""

    @property
    def chain(self) -> Chain: ...
    async def mine(self, count: int = 1) -> None: ...
    async def reorganise(self, depth: int) -> None:
        """Replace the last `depth` blocks by one more empty ones."""

    async def coin(self) -> Coin:
        """A coin of KEY that may be spent; another one each time."""

    async def away(self) -> Chain:
        """The same adapter in front of nothing."""


class FakeRig:
    def __init__(self) -> None:
        self.chain = FakeChain()
        self.chain.mine(10, script=KEY.script)
        self._spent = 0

    async def begin(self) -> None:
        return None

    async def mine(self, count: int = 1) -> None:
        self.chain.mine(count, script=KEY.script)

    async def reorganise(self, depth: int) -> None:
        self.chain.reorganise(depth, [[] for _ in range(depth + 1)])

    async def coin(self) -> Coin:
        self._spent += 1
        return self.chain.subsidy(self._spent)

    async def away(self) -> Chain:
        chain = FakeChain()
        chain.is_away = True
        return chain

    async def close(self) -> None:
        return None


class NodeRig:
    def __init__(self, node: BitcoinNode, way: str) -> None:
        self.miner = Miner(node)
        self._way = way
        self._opened: list[BitcoinRpc] = []

    async def begin(self) -> None:
        await self.miner.begin()
        self.chain = await self.open(self.miner.url, self.miner.credential)

    async def open(self, url: str, credential: Secret) -> BitcoinRpc:
        if self._way == "aiohttp":
            opened = await BitcoinRpc.open(url=url, credential=credential, network=REGTEST)
        else:
            opened = await open_library(url=url, credential=credential, network=REGTEST)
        self._opened.append(opened)
        return opened

    async def mine(self, count: int = 1) -> None:
        await self.miner.mine(count)

    async def reorganise(self, depth: int) -> None:
        height = await self.miner.height()
        await self.miner.branch(from_height=height - depth, blocks=[[] for _ in range(depth + 1)], salt=height)

    async def coin(self) -> Coin:
        return await self.miner.fresh_coin()

    async def away(self) -> Chain:
        return await self.open("http://127.0.0.1:1/", self.miner.credential)

    async def close(self) -> None:
        for opened in self._opened:
            await opened.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitcoinNode]:
    with running_node(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture(params=["fake", "aiohttp", "python-bitcoinrpc"])
def made_rig(request: pytest.FixtureRequest) -> FakeRig | NodeRig:
    # Apart from `rig`, because starting a node blocks and the event loop must not.
    if request.param == "fake":
        return FakeRig()
    return NodeRig(request.getfixturevalue("node"), request.param)


@pytest.fixture
async def rig(made_rig: FakeRig | NodeRig) -> AsyncIterator[Rig]:
    await made_rig.begin()
    yield made_rig
    await made_rig.close()


def _anchor(coin: Coin, fee_sat: int = 1_000, about: bytes = b"") -> AnchorTransaction:
    return anchor_transaction(hashlib.sha256(about).digest(), [coin], fee_sat=fee_sat, key=KEY)


async def test_blocks_follow_each_other_down_to_the_first(rig: Rig) -> None:
    tip = await rig.chain.tip()
    assert await rig.chain.block_hash(tip.height) == tip.block_hash
    assert await rig.chain.block_hash(0) == REGTEST.genesis
    assert await rig.chain.block_hash(tip.height + 1) is None
    block = await rig.chain.block(tip.block_hash)
    assert block is not None
    header = decode_header(block.header)
    assert header.block_hash == tip.block_hash
    assert await rig.chain.header(tip.block_hash) == block.header
    assert await rig.chain.header(BlockHash(b"\x07" * 32)) is None
    assert header.previous == await rig.chain.block_hash(tip.height - 1)
    assert merkle_root(block.transaction_ids) == header.merkle_root
    assert await rig.chain.block(BlockHash(b"\x07" * 32)) is None


async def test_a_transaction_waits_then_lies_in_a_block(rig: Rig) -> None:
    anchor = _anchor(await rig.coin())
    assert not await rig.chain.is_waiting(anchor.transaction_id)
    await rig.chain.broadcast(anchor.raw, anchor.transaction_id)
    assert await rig.chain.is_waiting(anchor.transaction_id)
    assert await rig.chain.coin(anchor.change.outpoint) is None
    await rig.mine()
    assert not await rig.chain.is_waiting(anchor.transaction_id)
    assert await rig.chain.coin(anchor.change.outpoint) == anchor.change
    block = await rig.chain.block((await rig.chain.tip()).block_hash)
    assert block is not None
    assert anchor.transaction_id in block.transaction_ids


async def test_handing_in_again_changes_nothing(rig: Rig) -> None:
    anchor = _anchor(await rig.coin())
    await rig.chain.broadcast(anchor.raw, anchor.transaction_id)
    await rig.chain.broadcast(anchor.raw, anchor.transaction_id)
    await rig.mine()
    await rig.chain.broadcast(anchor.raw, anchor.transaction_id)
    assert not await rig.chain.is_waiting(anchor.transaction_id)


async def test_a_coin_says_what_it_is_worth_until_it_is_spent(rig: Rig) -> None:
    coin = await rig.coin()
    assert await rig.chain.coin(coin.outpoint) == coin
    anchor = _anchor(coin)
    await rig.chain.broadcast(anchor.raw, anchor.transaction_id)
    await rig.mine()
    assert await rig.chain.coin(coin.outpoint) is None
    assert await rig.chain.coin(Outpoint(transaction_id=TransactionId(b"\x07" * 32), index=0)) is None


async def test_what_spends_a_spent_coin_is_refused(rig: Rig) -> None:
    coin = await rig.coin()
    first, second = _anchor(coin, about=b"1"), _anchor(coin, about=b"2")
    await rig.chain.broadcast(first.raw, first.transaction_id)
    await rig.mine()
    with pytest.raises(Rejected) as refusal:
        await rig.chain.broadcast(second.raw, second.transaction_id)
    assert refusal.value.code == "transaction_refused"
    assert not await rig.chain.is_waiting(second.transaction_id)


async def test_the_longer_branch_wins_and_the_lost_block_can_still_be_read(rig: Rig) -> None:
    anchor = _anchor(await rig.coin())
    await rig.chain.broadcast(anchor.raw, anchor.transaction_id)
    await rig.mine()
    lost = await rig.chain.tip()
    await rig.reorganise(1)
    tip = await rig.chain.tip()
    assert tip.height == lost.height + 1
    assert await rig.chain.block_hash(lost.height) != lost.block_hash
    block = await rig.chain.block(lost.block_hash)
    assert block is not None
    assert anchor.transaction_id in block.transaction_ids
    assert await rig.chain.coin(anchor.change.outpoint) is None
    await rig.chain.broadcast(anchor.raw, anchor.transaction_id)
    await rig.mine()
    assert await rig.chain.coin(anchor.change.outpoint) == anchor.change


async def test_a_fee_rate_is_positive_or_unknown(rig: Rig) -> None:
    rate = await rig.chain.fee_rate(6)
    assert rate is None or rate > 0


async def test_a_node_that_is_away_is_unavailable_for_every_verb(rig: Rig) -> None:
    chain = await rig.away()
    anchor = _anchor(await rig.coin())
    for ask in (
        chain.tip(),
        chain.block_hash(1),
        chain.header(REGTEST.genesis),
        chain.block(REGTEST.genesis),
        chain.coin(anchor.change.outpoint),
        chain.is_waiting(anchor.transaction_id),
        chain.fee_rate(6),
        chain.broadcast(anchor.raw, anchor.transaction_id),
    ):
        with pytest.raises(Unavailable) as trouble:
            await ask
        assert trouble.value.code == "chain_away"


@pytest.mark.parametrize("way", ["aiohttp", "python-bitcoinrpc"])
async def test_a_wrong_password_and_another_network_are_named(node: BitcoinNode, way: str) -> None:
    real = NodeRig(node, way)
    stranger = await real.open(real.miner.url, Secret(b"x:wrong"))
    with pytest.raises(Rejected) as refusal:
        await stranger.tip()
    assert refusal.value.code == "chain_credential_refused"
    opener = BitcoinRpc.open if way == "aiohttp" else open_library
    elsewhere = await opener(url=real.miner.url, credential=real.miner.credential, network=MAINNET)
    with pytest.raises(Rejected) as other:
        await elsewhere.tip()
    assert other.value.code == "chain_other_network"
    await elsewhere.close()
    await real.close()


async def test_many_questions_at_once_get_their_own_answers(rig: Rig) -> None:
    tip = await rig.chain.tip()
    heights = [at % (tip.height + 1) for at in range(40)]
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(rig.chain.block_hash(height)) for height in heights]
    hashes = [task.result() for task in asked]
    assert len(set(hashes)) == len(set(heights))


async def test_a_password_never_travels_in_the_clear() -> None:
    for opener in (BitcoinRpc.open, open_library):
        with pytest.raises(Rejected) as refusal:
            await opener(url="http://node.example:8332/", credential=Secret(b"x:y"), network=REGTEST)
        assert refusal.value.code == "chain_address_insecure"

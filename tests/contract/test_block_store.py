"""What a block store promises: both adapters, on a real IPFS node and on the fake one that can lie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

from appliance.adapters.ipfs_client import IpfsClient
from appliance.adapters.ipfs_http import IpfsHttp
from appliance.evidence.car import BLOCK_BYTES_MAX, Block, car_of, raw_block, write_car
from appliance.evidence.cid import raw_cid
from appliance.evidence.publication_root import ChunkAt, Root, Scope, Sealing, TileAt
from appliance.model.errors import Rejected, TillstoneError, Unavailable
from appliance.model.ids import Cid
from appliance.ports.block_store import BlockStore
from provisioning.sandbox.ipfs_node import IpfsNode
from tests.fakes.ipfs_node import FakeIpfsNode, other_root
from tests.ipfs import running_node

# The optional library still hands urllib3 an argument that urllib3 no longer wants.
pytestmark = pytest.mark.filterwarnings("ignore:The 'strict' parameter:FutureWarning")

DEADLINE_MS = 1_500
NOWHERE = "http://127.0.0.1:1"


@dataclass(frozen=True, slots=True)
class Sent:
    """A publication's blocks: a root, a note, a chunk."""

    root: Block
    note: Block
    chunk: Block

    @property
    def car(self) -> bytes:
        return write_car(car_of(self.root.cid, [self.root, self.note, self.chunk]))


def blocks(name: str, size_bytes: int = 1000) -> Sent:
    note, chunk = raw_block(f"note {name}".encode()), raw_block(name.encode() * (size_bytes // len(name)))
    root = Root(
        scope=Scope(origin="shop.example/SN-1/1", first=0, end=2),
        size=2,
        checkpoint=note.cid,
        consistency=(),
        sealing=Sealing(recipient=bytes(32), seal=b"seal"),
        previous=raw_cid(b"a publication before this one, which no node here has"),
        tiles={TileAt(level=0, number=0, width=2): note.cid},
        chunks={ChunkAt(first=0, count=2): chunk.cid},
    )
    return Sent(root.block(), note, chunk)


async def open_store(adapter: str, api_base: str) -> BlockStore:
    if adapter == "aiohttp":
        return await IpfsHttp.open(api_base=api_base, deadline_ms=DEADLINE_MS)
    if find_spec("ipfshttpclient") is None:
        pytest.skip("optional: the package ipfshttpclient is not installed")
    return await IpfsClient.open(api_base=api_base, deadline_ms=DEADLINE_MS)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IpfsNode]:
    with running_node(tmp_path_factory.mktemp("ipfs") / "repository") as node:
        yield node


@pytest.fixture(params=["aiohttp", "ipfshttpclient"])
def adapter(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["fake", "real"])
def real_node(request: pytest.FixtureRequest) -> IpfsNode | None:
    # Apart from `store`, because starting a process blocks and the event loop must not.
    return request.getfixturevalue("node") if request.param == "real" else None


@pytest.fixture
async def store(adapter: str, real_node: IpfsNode | None) -> AsyncIterator[BlockStore]:
    async with AsyncExitStack() as stack:
        if real_node is None:
            api_base = (await stack.enter_async_context(FakeIpfsNode())).api_base
        else:
            api_base = real_node.api_base
        store = await open_store(adapter, api_base)
        stack.push_async_callback(store.close)
        yield store


@pytest.fixture
async def lying(adapter: str) -> AsyncIterator[tuple[FakeIpfsNode, BlockStore]]:
    async with FakeIpfsNode() as fake:
        store = await open_store(adapter, fake.api_base)
        try:
            yield fake, store
        finally:
            await store.close()


async def test_what_is_kept_comes_back_byte_for_byte(store: BlockStore) -> None:
    sent = blocks("kept", BLOCK_BYTES_MAX)
    assert await store.keep(sent.car) == sent.root.cid
    for block in (sent.root, sent.note, sent.chunk):
        assert await store.block(block.cid) == block.content
    assert await store.is_kept(sent.root.cid)


async def test_keeping_again_changes_nothing(store: BlockStore) -> None:
    sent = blocks("again")
    assert {await store.keep(sent.car) for _ in range(3)} == {sent.root.cid}
    assert await store.block(sent.chunk.cid) == sent.chunk.content


async def test_only_a_root_that_was_kept_is_kept(store: BlockStore) -> None:
    sent = blocks("a root")
    await store.keep(sent.car)
    assert not await store.is_kept(sent.chunk.cid)
    assert not await store.is_kept(raw_cid(b"never sent"))


async def test_a_missing_block_is_an_answer_in_time(store: BlockStore) -> None:
    with pytest.raises(Rejected) as refusal:
        await store.block(raw_cid(b"never sent"))
    assert refusal.value.code == "block_missing"


async def test_a_root_without_all_its_blocks_is_not_kept(store: BlockStore) -> None:
    sent = blocks("incomplete")
    with pytest.raises(TillstoneError) as refusal:
        await store.keep(write_car(car_of(sent.root.cid, [sent.root, sent.note])))
    assert refusal.value.code in ("block_store_refused", "block_store_away")
    assert not await store.is_kept(sent.root.cid)


async def test_a_damaged_file_is_refused(store: BlockStore) -> None:
    with pytest.raises(Rejected) as refusal:
        await store.keep(blocks("damaged").car[:-3])
    assert refusal.value.code == "block_store_refused"


async def ask(store: BlockStore, verb: str, sent: Sent) -> Cid | bytes | bool:
    match verb:
        case "dag/import":
            return await store.keep(sent.car)
        case "block/get":
            return await store.block(sent.chunk.cid)
        case _:
            return await store.is_kept(sent.root.cid)


VERBS = ["dag/import", "block/get", "pin/ls"]


@pytest.mark.parametrize("verb", VERBS)
async def test_a_node_that_is_away_is_unavailable(adapter: str, verb: str) -> None:
    store = await open_store(adapter, NOWHERE)
    with pytest.raises(Unavailable) as trouble:
        await ask(store, verb, blocks("away"))
    assert trouble.value.code == "block_store_away"
    await store.close()


@pytest.mark.parametrize("verb", VERBS)
async def test_a_node_that_hangs_costs_one_deadline(lying: tuple[FakeIpfsNode, BlockStore], verb: str) -> None:
    fake, store = lying
    fake.hangs.add(verb)
    with pytest.raises(Unavailable) as trouble:
        await ask(store, verb, blocks("hangs"))
    assert trouble.value.code == "block_store_away"
    fake.hangs.clear()
    sent = blocks("heals")
    assert await store.keep(sent.car) == sent.root.cid


@pytest.mark.parametrize("verb", VERBS)
async def test_an_answer_cut_short_is_unavailable(lying: tuple[FakeIpfsNode, BlockStore], verb: str) -> None:
    fake, store = lying
    fake.cuts.add(verb)
    with pytest.raises(Unavailable) as trouble:
        await ask(store, verb, blocks("cut"))
    assert trouble.value.code == "block_store_away"


async def test_a_block_without_end_is_given_up(lying: tuple[FakeIpfsNode, BlockStore]) -> None:
    fake, store = lying
    fake.floods.add("block/get")
    with pytest.raises(Rejected) as refusal:
        await ask(store, "block/get", blocks("flood"))
    assert refusal.value.code == "block_store_refused"


@pytest.mark.parametrize("verb", ["dag/import", "pin/ls"])
@pytest.mark.parametrize(
    "answer",
    [b"", b"no json", b"[]", b"{}\n{}", b'{"Root": {"Cid": {"/": "QmUNLLsPACCz1vLxQVkXqqLX5R1X345"}}}', b"\xff"],
)
async def test_an_unreadable_answer_is_never_a_yes(
    lying: tuple[FakeIpfsNode, BlockStore], verb: str, answer: bytes
) -> None:
    fake, store = lying
    fake.says[verb] = answer
    try:
        assert await ask(store, verb, blocks("unreadable")) is False
        assert verb == "pin/ls"
    except Rejected as refusal:
        assert refusal.code == "block_store_refused"  # noqa: PT017 - a list of no pins is an answer too


async def test_a_failed_pin_is_refused(lying: tuple[FakeIpfsNode, BlockStore]) -> None:
    fake, store = lying
    fake.says["dag/import"] = other_root().replace(b'"PinErrorMsg": ""', b'"PinErrorMsg": "no room"')
    with pytest.raises(Rejected, match="no room"):
        await store.keep(blocks("no room").car)


@pytest.mark.parametrize("verb", VERBS)
async def test_the_nodes_own_error_is_told(lying: tuple[FakeIpfsNode, BlockStore], verb: str) -> None:
    fake, store = lying
    fake.fails[verb] = "the disk is full"
    with pytest.raises(Rejected, match="the disk is full"):
        await ask(store, verb, blocks("full"))


@pytest.mark.parametrize("verb", VERBS)
async def test_a_redirect_is_not_followed(verb: str) -> None:
    async with FakeIpfsNode() as elsewhere, FakeIpfsNode() as fake:
        fake.redirects[verb] = f"{elsewhere.api_base}/api/v0/{verb}"
        store = await open_store("aiohttp", fake.api_base)
        with pytest.raises(Rejected):
            await ask(store, verb, blocks("redirected"))
        await store.close()
        assert elsewhere.asked == []

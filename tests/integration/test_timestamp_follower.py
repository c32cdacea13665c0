"""The follower as the box wires it, on a real node, by both ways; the official client judges what it keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import aiohttp
import pytest

from appliance.anchor.stamps import OWN
from appliance.anchor.store import EvidenceStore
from appliance.anchor.timestamps import Timestamps
from appliance.config.timestamping import BitcoinNode as NodeSettings
from appliance.config.timestamping import OwnAnchors, Timestamping
from appliance.evidence.block import shown
from appliance.runtime.clock import SystemClock
from appliance.runtime.log import Log
from appliance.wiring.timestamping import make_timestamps, open_node
from provisioning.sandbox.bitcoin_node import BitcoinNode
from tests.bitcoin import KEY_NUMBER, Miner, running_node
from tests.calendar_server import CalendarProcess
from tests.fakes.clock import FakeClock
from tests.upstream import witnessed_log

ROUNDS_MAX = 200


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitcoinNode]:
    with running_node(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture
def calendar(node: BitcoinNode, tmp_path: Path) -> Iterator[CalendarProcess]:
    process = CalendarProcess(tmp_path / "calendar", node)
    yield process
    process.stop()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EvidenceStore]:
    store = await EvidenceStore.open(tmp_path)
    yield store
    await store.close()


async def confirmed(follower: Timestamps, miner: Miner, store: EvidenceStore) -> tuple[str, bytes, bytes]:
    """Mine and step until a stamp is confirmed: its way, its `.ots`, the note."""
    query = (
        "SELECT t.way, t.proof, c.note FROM timestamps t JOIN checkpoints c USING (size) WHERE t.state = 'confirmed'"
    )
    for _ in range(ROUNDS_MAX):
        await follower.step()
        rows = await store.read(lambda connection: connection.execute(query).fetchall())
        if rows:
            (row,) = rows
            return row[0], row[1], row[2]
        await miner.mine(1)
    raise AssertionError(f"nothing was confirmed after {ROUNDS_MAX} blocks")


@pytest.mark.parametrize("client", ["aiohttp", "python-bitcoinrpc"])
@pytest.mark.parametrize("way", ["calendar", OWN])
async def test_the_official_client_accepts_what_the_box_keeps(
    node: BitcoinNode,
    calendar: CalendarProcess,
    store: EvidenceStore,
    tmp_path: Path,
    way: str,
    client: Literal["aiohttp", "python-bitcoinrpc"],
) -> None:
    miner = Miner(node)
    await miner.begin()
    coin = (await miner.fresh_coin()).outpoint
    if way != OWN:
        calendar.start([coin])
    key_path, credential_path = (calendar.folder / name for name in ("anchor.key", "credential"))
    assert key_path.read_text() == KEY_NUMBER.hex()
    own = OwnAnchors(key_path=key_path, coins=(f"{shown(coin.transaction_id)}:{coin.index}",))
    node_settings = NodeSettings(
        url=node.url, credential_path=credential_path, network="regtest", client=client, own=own
    )
    settings = Timestamping(calendars=() if way == OWN else (calendar.url,), node=node_settings)
    clock = FakeClock()
    opened = await open_node(node_settings)
    async with aiohttp.ClientSession() as http, witnessed_log(tmp_path / "ledger", clock) as log:
        await log.grow(3)
        follower = make_timestamps(
            settings,
            opened=opened,
            http=lambda _address: http,
            checkpoints=log.checkpoints,
            store=store,
            clock=SystemClock(),
            log=Log(sink=lambda _line: None, clock=clock),
        )
        found, proof, note = await confirmed(follower, miner, store)
    await opened.chain.close()
    assert found == (OWN if way == OWN else calendar.url)
    (tmp_path / "note").write_bytes(note)
    (tmp_path / "note.ots").write_bytes(proof)
    assert "Success! Bitcoin block" in official_verify(node, tmp_path / "note.ots")


def official_verify(node: BitcoinNode, file: Path) -> str:
    """What the official client says of the `.ots` beside its file."""
    address = node.url.replace("://", f"://{node.credential}@")
    command = [str(Path(sys.executable).with_name("ots")), "--no-cache", "--btc-regtest", "--bitcoin-node", address]
    ended = subprocess.run(
        [*command, "verify", str(file)], env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stderr

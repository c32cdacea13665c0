"""Our calendar on a real node, judged by the official OpenTimestamps client: stamp, upgrade, verify."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from appliance.adapters.calendar_http import HttpCalendar
from appliance.evidence.block import REGTEST, shown
from appliance.evidence.ots import InBlock, Promised, Proof, Timestamp, grafted
from appliance.evidence.ots_file import decode_proof, decode_timestamp, encode_proof
from appliance.evidence.timestamp import verify_timestamp
from appliance.model.errors import Rejected, Unavailable
from provisioning.sandbox.bitcoin_node import BitcoinNode
from tests.bitcoin import Miner, running_node
from tests.calendar_server import CalendarProcess

CLIENT_S_MAX = 60
DIGEST = hashlib.sha256(b"a head").digest()


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
def ots(node: BitcoinNode, calendar: CalendarProcess, tmp_path: Path) -> Callable[..., str]:
    """The official client in a folder of its own; returns what it said."""
    address = node.url.replace("://", f"://{node.credential}@")

    def run(*arguments: str, code: int = 0) -> str:
        command = [str(Path(sys.executable).with_name("ots")), "-v", "--no-cache", "--btc-regtest"]
        command += ["--bitcoin-node", address, "--whitelist", calendar.url, *arguments]
        ended = subprocess.run(
            command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=CLIENT_S_MAX, check=False
        )
        assert ended.returncode == code, ended.stderr
        return ended.stderr

    return run


@pytest.fixture
async def miner(node: BitcoinNode) -> Miner:
    miner = Miner(node)
    await miner.begin()
    return miner


@pytest.fixture
async def client(calendar: CalendarProcess) -> AsyncIterator[HttpCalendar]:
    async with aiohttp.ClientSession() as http:
        yield HttpCalendar(address=calendar.url, http=http)


async def start(calendar: CalendarProcess, miner: Miner) -> None:
    calendar.start([(await miner.fresh_coin()).outpoint])


async def sent(miner: Miner) -> None:
    """Until a transaction waits in the node."""
    async with asyncio.timeout(CLIENT_S_MAX):
        while not await miner.rpc("getrawmempool"):
            continue


async def settled(client: HttpCalendar, miner: Miner, commitment: bytes) -> Timestamp:
    """Mine until the calendar keeps its promise."""
    async with asyncio.timeout(CLIENT_S_MAX):
        while (answer := await client.lookup(commitment)) is None:
            await miner.mine(1)
    return decode_timestamp(answer, commitment)


def read_proof(file: Path) -> tuple[Proof, bytes]:
    """What the official client wrote beside `file`, and the digest of `file`."""
    return decode_proof(Path(f"{file}.ots").read_bytes()), hashlib.sha256(file.read_bytes()).digest()


def promised(timestamp: Timestamp) -> bytes:
    """What the calendar is asked for."""
    return next(message for message, claim in timestamp.claims() if isinstance(claim, Promised))


def height_of(timestamp: Timestamp) -> int:
    """The block that it names."""
    return next(claim.height for _, claim in timestamp.claims() if isinstance(claim, InBlock))


async def check_offline(miner: Miner, encoded: bytes, digest: bytes) -> None:
    """With the block's header and the five that follow it, and nothing else."""
    height = height_of(decode_proof(encoded).timestamp)
    headers = [
        bytes.fromhex(await miner.rpc("getblockheader", shown(await miner.hash_at(height + at)), False))
        for at in range(6)
    ]
    attested = verify_timestamp(encoded, digest, headers, network=REGTEST)
    assert (attested.height, attested.confirmations) == (height, 6)


async def test_the_official_client_stamps_upgrades_and_verifies(
    calendar: CalendarProcess, miner: Miner, client: HttpCalendar, ots: Callable[..., str], tmp_path: Path
) -> None:
    await start(calendar, miner)
    files = [tmp_path / f"note-{number}" for number in range(2)]
    for file in files:
        file.write_text(file.name)
        ots("stamp", "-c", calendar.url, "-m", "1", str(file))
    assert "Pending confirmation" in ots("upgrade", f"{files[0]}.ots", code=1)
    for file in files:
        stamped, digest = read_proof(file)
        await settled(client, miner, promised(stamped.timestamp))
        assert "Success! Timestamp complete" in ots("upgrade", f"{file}.ots")
        assert "Success! Bitcoin block" in ots("verify", f"{file}.ots")
        await check_offline(miner, encode_proof(read_proof(file)[0]), digest)
    files[0].write_text("another")
    assert "does not match" in ots("verify", f"{files[0]}.ots", code=1)


async def test_the_official_client_accepts_the_files_that_we_put_together(
    calendar: CalendarProcess, miner: Miner, client: HttpCalendar, ots: Callable[..., str], tmp_path: Path
) -> None:
    await start(calendar, miner)
    note = tmp_path / "checkpoint"
    note.write_bytes(b"shop.example/SN-1/1\n")
    digest = hashlib.sha256(note.read_bytes()).digest()
    timestamp = decode_timestamp(await client.submit(digest), digest)
    whole = grafted(timestamp, await settled(client, miner, promised(timestamp)))
    encoded = encode_proof(Proof(timestamp=whole))
    (tmp_path / "anchor.ots").write_bytes(encoded)
    assert "Success! Bitcoin block" in ots("verify", "-f", str(note), str(tmp_path / "anchor.ots"))
    await check_offline(miner, encoded, digest)


async def test_every_digest_of_a_batch_has_its_own_path_to_one_transaction(
    calendar: CalendarProcess, miner: Miner, client: HttpCalendar
) -> None:
    await start(calendar, miner)
    first = decode_timestamp(await client.submit(b"\x01" * 32), b"\x01" * 32)
    await sent(miner)  # the first batch is on its way; everything else goes with the second
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(37)]
    timestamps = [decode_timestamp(await client.submit(digest), digest) for digest in digests]
    await settled(client, miner, promised(first))
    whole = [grafted(each, await settled(client, miner, promised(each))) for each in timestamps]
    assert len({height_of(each) for each in whole}) == 1, "all of them lie in one block"
    for digest, each in zip(digests, whole, strict=True):
        await check_offline(miner, encode_proof(Proof(timestamp=each)), digest)


async def test_killed_and_started_again_it_keeps_every_promise_with_one_transaction(
    calendar: CalendarProcess, miner: Miner
) -> None:
    coin = await miner.fresh_coin()
    digest = hashlib.sha256(b"kept").digest()
    before = await miner.height()
    answers = []
    for waits in (False, True):
        calendar.start([coin.outpoint])
        async with aiohttp.ClientSession() as http:
            answers.append(await HttpCalendar(address=calendar.url, http=http).submit(digest))
        if waits:
            await sent(miner)
        calendar.kill()
    assert answers[0] == answers[1]
    calendar.start([coin.outpoint])
    async with aiohttp.ClientSession() as http:
        client = HttpCalendar(address=calendar.url, http=http)
        await settled(client, miner, promised(decode_timestamp(answers[0], digest)))
    carried = [await miner.block_size(height) for height in range(before + 1, await miner.height() + 1)]
    assert sum(carried) == len(carried) + 1, "one transaction beside the miners' own"


async def test_a_reorganisation_takes_the_timestamp_back_until_it_is_true_again(
    calendar: CalendarProcess, miner: Miner, client: HttpCalendar
) -> None:
    await start(calendar, miner)
    digest = hashlib.sha256(b"reorganised").digest()
    timestamp = decode_timestamp(await client.submit(digest), digest)
    before = await settled(client, miner, promised(timestamp))
    base, height = height_of(before) - 1, await miner.height()
    await miner.branch(from_height=base, blocks=[[] for _ in range(height - base + 1)], salt=height)
    async with asyncio.timeout(CLIENT_S_MAX):
        while await client.lookup(before.message) is not None:
            continue
    after = await settled(client, miner, before.message)
    assert after != before
    await check_offline(miner, encode_proof(Proof(timestamp=grafted(timestamp, after))), digest)


async def test_what_is_no_digest_and_no_commitment_is_refused(
    calendar: CalendarProcess, miner: Miner, client: HttpCalendar
) -> None:
    await start(calendar, miner)
    async with aiohttp.ClientSession() as http:
        for body, status in ((b"", 400), (b"x" * 65, 413), (b"x" * 64, 200)):
            async with http.post(f"{calendar.url}/digest", data=body) as answer:
                assert answer.status == status
        for asked, status in (("00", 400), ("AB" * 32, 400), ("ab" * 32, 404)):
            async with http.get(f"{calendar.url}/timestamp/{asked}") as answer:
                assert answer.status == status
    with pytest.raises(Rejected) as refusal:
        await client.submit(b"")
    assert refusal.value.code == "calendar_refused"
    assert await client.lookup(bytes(32)) is None


async def test_a_calendar_that_is_away_is_unavailable(calendar: CalendarProcess, client: HttpCalendar) -> None:
    for ask in (client.submit(DIGEST), client.lookup(DIGEST)):
        with pytest.raises(Unavailable) as trouble:
            await ask
        assert trouble.value.code == "calendar_away"


async def test_plain_http_to_another_machine_is_refused() -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(Rejected) as refusal:
            HttpCalendar(address="http://calendar.example", http=http)
    assert refusal.value.code == "calendar_address_insecure"

"""A Bitcoin node that lies, hangs or floods: each verb ends in a refusal with a code, in bounded time and memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest

from appliance.adapters.bitcoin_rpc import BLOCK_BYTES_MAX, BitcoinRpc
from appliance.adapters.bitcoin_rpc_lib import open_library
from appliance.config.secret import Secret
from appliance.evidence.block import MAINNET, REGTEST, Network, decode_header, shown
from appliance.model.errors import Rejected, TillstoneError, Unavailable
from appliance.ports.chain import Block, Chain, Outpoint, TransactionId
from tests.regtest import mine

BLOCK: Final = mine(height=1)
COIN: Final = BLOCK.subsidy
PATIENT_MS: Final = 60_000
SHORT_MS: Final = 300
CODES: Final = {"chain_away", "chain_answer_unreadable"}

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Conduct = Callable[[Line, dict[str, Any]], Awaitable[None]]
Verb = Callable[[Chain], Awaitable[object]]

HONEST: Final[dict[str, Any]] = {
    "getblockchaininfo": {"blocks": 1, "bestblockhash": shown(BLOCK.block_hash)},
    "getblockhash": shown(REGTEST.genesis),
    "getblockheader": BLOCK.header.hex(),
    "getblock": {"tx": [shown(each) for each in BLOCK.transaction_ids]},
    "gettxout": {"value": 50.0, "scriptPubKey": {"hex": COIN.script.hex()}},
    "getmempoolentry": {"vsize": 165},
    "estimatesmartfee": {"feerate": 0.00002},
    "sendrawtransaction": shown(COIN.outpoint.transaction_id),
}
VERBS: Final[dict[str, Verb]] = {
    "tip": lambda chain: chain.tip(),
    "block_hash": lambda chain: chain.block_hash(1),
    "header": lambda chain: chain.header(BLOCK.block_hash),
    "block": lambda chain: chain.block(BLOCK.block_hash),
    "coin": lambda chain: chain.coin(COIN.outpoint),
    "is_waiting": lambda chain: chain.is_waiting(COIN.outpoint.transaction_id),
    "fee_rate": lambda chain: chain.fee_rate(6),
    "broadcast": lambda chain: chain.broadcast(b"\x02", COIN.outpoint.transaction_id),
}


@pytest.fixture(params=["aiohttp", "python-bitcoinrpc"])
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Node:
    """A server that does to each question what a test wants; `ended` is set when a line to it is over."""

    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            question = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
            await self._conduct((reader, writer), question)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked has gone
        finally:
            writer.close()
            self.ended.set()


@asynccontextmanager
async def opened(
    way: str, conduct: Conduct, *, deadline_ms: int = PATIENT_MS, network: Network = REGTEST
) -> AsyncIterator[tuple[Chain, Node]]:
    node = Node(conduct)
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    opener = BitcoinRpc.open if way == "aiohttp" else open_library
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    chain = await opener(url=url, credential=Secret(b"x:y"), network=network, deadline_ms=deadline_ms)
    try:
        yield chain, node
    finally:
        await chain.close()
        server.close()


def http(body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + body


def answer(question: dict[str, Any], result: Any, **more: Any) -> bytes:
    return http(json.dumps({"result": result, "error": None, "id": question["id"], **more}).encode())


def says(raw: bytes) -> Conduct:
    """The same bytes to every question."""

    async def conduct(line: Line, _question: dict[str, Any]) -> None:
        line[1].write(raw)
        await line[1].drain()

    return conduct


def but(method: str, text: str) -> Conduct:
    """Honest, with `text` as the JSON of what one method gives."""

    async def conduct(line: Line, question: dict[str, Any]) -> None:
        asked = question["method"]
        if asked != method:
            line[1].write(answer(question, HONEST[asked]))
        else:
            line[1].write(http(f'{{"result": {text}, "error": null, "id": {question["id"]}}}'.encode()))
        await line[1].drain()

    return conduct


async def honest(line: Line, question: dict[str, Any]) -> None:
    line[1].write(answer(question, HONEST[question["method"]]))
    await line[1].drain()


async def refusal(chain: Chain, verb: str) -> str:
    """The code, which is one of the port's; the sentence is short and no traceback comes."""
    with pytest.raises(TillstoneError) as refused:
        await VERBS[verb](chain)
    assert isinstance(refused.value, Unavailable | Rejected)
    assert len(refused.value.detail) < 400
    return refused.value.code


RAW: Final = {
    "HTML": http(b"<html>Welcome</html>", kind="text/html"),
    "HTML that calls itself JSON": http(b"<html>Welcome</html>"),
    "nothing": http(b""),
    "no content": b"HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\n\r\n",
    "a redirection": http(b"{}", status="302 Found", more="Location: http://127.0.0.1:1/\r\n"),
    "a failure": http(b"{}", status="500 Internal Server Error"),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a torn answer": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"result": ',
    "a bad length": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n{}",
    "a long header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n{}",
    "bytes that are no text": http(b'{"result": "\xff\xfe", "error": null, "id": 1}'),
    "a list": http(b"[]"),
    "a number": http(b"7"),
    "a text": http(b'"error"'),
    "null": http(b"null"),
    "no result": http(b'{"id": 1, "error": null}'),
    "depth": http(b"[" * 100_000),
    "a long integer": http(b'{"error": null, "id": 1, "result": ' + b"9" * 100_000 + b"}"),
    "an endless exponent": http(b'{"error": null, "id": 1, "result": 1e9999999999999999999}'),
    "an error that is a text": http(b'{"result": null, "id": 1, "error": "code message"}'),
    "an error that is a list": http(b'{"result": null, "id": 1, "error": ["code"]}'),
    "an error without a code": http(b'{"result": null, "id": 1, "error": {}}'),
    "what unpacks to much more": http(gzip.compress(b" " * (64 << 20)), more="Content-Encoding: gzip\r\n"),
}


async def test_an_honest_node_is_believed(way: str) -> None:
    async with opened(way, honest) as (chain, _):
        assert (await chain.tip()).height == 1
        assert await chain.block_hash(1) == REGTEST.genesis
        assert await chain.block(BLOCK.block_hash) == Block(header=BLOCK.header, transaction_ids=BLOCK.transaction_ids)
        assert await chain.coin(COIN.outpoint) == COIN
        assert await chain.is_waiting(COIN.outpoint.transaction_id)
        assert await chain.fee_rate(6) == 2_000
        await chain.broadcast(b"\x02", COIN.outpoint.transaction_id)


@pytest.mark.parametrize("evil", RAW)
async def test_what_is_no_answer_is_refused_by_every_verb(way: str, evil: str) -> None:
    async with opened(way, says(RAW[evil])) as (chain, _):
        for verb in VERBS:
            assert await refusal(chain, verb) in CODES, verb


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
@pytest.mark.parametrize("kind", ["text/html", "application/json"])
async def test_a_refused_credential_is_named_by_every_verb(way: str, status: str, kind: str) -> None:
    async with opened(way, says(http(b'{"error": {"code": -5}}', status=status, kind=kind))) as (chain, _):
        for verb in VERBS:
            assert await refusal(chain, verb) == "chain_credential_refused", verb


@pytest.mark.parametrize("number", [0, -1, "1", None, 10**30])
async def test_an_answer_to_another_question_is_refused(number: object) -> None:
    async def conduct(line: Line, question: dict[str, Any]) -> None:
        line[1].write(answer(question, HONEST[question["method"]], id=number))
        await line[1].drain()

    # python-bitcoinrpc does not look at numbers; it has one connection for each question, so none can be mixed up.
    async with opened("aiohttp", conduct) as (chain, _):
        for verb in VERBS:
            assert await refusal(chain, verb) == "chain_answer_unreadable", verb


async def test_a_node_that_never_answers_is_away_after_the_deadline(way: str) -> None:
    async def conduct(line: Line, _question: dict[str, Any]) -> None:
        await line[0].read()

    async with opened(way, conduct, deadline_ms=SHORT_MS) as (chain, node):
        for verb in VERBS:
            assert await refusal(chain, verb) == "chain_away", verb
        await node.ended.wait()


@pytest.mark.parametrize(
    "drops", [b"HTTP/1.1 100 Continue\r\n\r\n", b" ", b"X-Padding: yes\r\n"], ids=["interim", "body", "header"]
)
async def test_an_answer_that_comes_in_drops_is_cut_at_the_deadline(way: str, drops: bytes) -> None:
    async def conduct(line: Line, _question: dict[str, Any]) -> None:
        if drops == b" ":
            line[1].write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        elif b"X-" in drops:
            line[1].write(b"HTTP/1.1 200 OK\r\n")
        while not line[0].at_eof():
            line[1].write(drops)
            await line[1].drain()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await line[0].read(1)

    async with opened(way, conduct, deadline_ms=SHORT_MS) as (chain, node):
        assert await refusal(chain, "tip") in CODES
        await node.ended.wait()  # the line is cut: no thread is left behind, waiting for the next drop


@pytest.mark.parametrize("head", [b"Content-Length: 100000000000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
@pytest.mark.parametrize("verb", VERBS)
async def test_an_endless_answer_is_cut_at_its_bound(way: str, head: bytes, verb: str) -> None:
    sent = 0

    async def conduct(line: Line, _question: dict[str, Any]) -> None:
        nonlocal sent
        line[1].write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + head + b"\r\n")
        piece = b"[" * 0xFFFF
        while True:
            line[1].write(b"ffff\r\n" + piece + b"\r\n" if b"chunked" in head else piece)
            await line[1].drain()
            sent += len(piece)

    async with opened(way, conduct) as (chain, node):
        assert await refusal(chain, verb) == "chain_answer_unreadable"
        await node.ended.wait()
    assert sent < BLOCK_BYTES_MAX + (16 << 20), "the bound, and what lies in the buffers of two sockets"


FLOODS: Final = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Padding: " + b"x" * 4_000 + b"\r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\nX-Padding: ", b"x" * 4_000),
    "a reason": (b"HTTP/1.1 200 ", b"x" * 4_000),
    "a chunk's size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 4_000),
    "a chunk's extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 4_000),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + b"x" * 4_000 + b"\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_around_the_answer_ends_in_bounded_memory(way: str, flood: str) -> None:
    head, piece = FLOODS[flood]

    async def conduct(line: Line, _question: dict[str, Any]) -> None:
        line[1].write(head)
        while True:
            line[1].write(piece)
            await line[1].drain()
            await asyncio.sleep(0)  # a drain that need not wait gives nobody else a turn

    tracemalloc.start()
    try:
        async with opened(way, conduct, deadline_ms=1_000) as (chain, node):
            assert await refusal(chain, "tip") in CODES
            await node.ended.wait()
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


LIES: Final = [
    *[("tip", "getblockchaininfo", f'{{"blocks": {height}, "bestblockhash": "{"00" * 32}"}}') for height in (
        "-1", "true", '"5"', "1.5", "1e3", "null", "2147483648", "9" * 4_000, "NaN", "Infinity", "[]",
    )],
    *[("tip", "getblockchaininfo", f'{{"blocks": 1, "bestblockhash": {value}}}') for value in (
        "null", "7", '""', f'"{"00" * 31}"', f'"{"zz" * 32}"', "[]", "{}", f'"{"00" * 33}"',
    )],
    *[("tip", "getblockchaininfo", value) for value in ("[]", "{}", "7", '"x"', "null")],
    *[("block_hash", "getblockhash", value) for value in ("7", "[]", "{}", '""', '"00"', f'"{"é" * 64}"')],
    *[("header", "getblockheader", value) for value in ("7", "[]", "{}", '""', f'"{"00" * 80}"')],
    ("header", "getblockheader", f'"{mine(height=1, salt=1).header.hex()}"'),
    ("header", "getblockheader", f'"{BLOCK.header[:79].hex()}"'),
    ("header", "getblockheader", f'"{BLOCK.header.hex()}00"'),
    *[("block", "getblock", value) for value in ("7", "[]", "{}", '{"tx": 7}', '{"tx": {}}', '{"tx": []}')],
    *[("block", "getblock", f'{{"tx": {ids}}}') for ids in (
        "[7]", '["00"]', "[[]]", f'["{"11" * 32}"]', f'["{shown(BLOCK.transaction_ids[0])}", "{"11" * 32}"]',
    )],
    *[("coin", "gettxout", f'{{"value": {value}, "scriptPubKey": {{"hex": "51"}}}}') for value in (
        "-1", "-0.00000001", "21000000.1", "1e999999999", "1e-999999999999999999999", "true", '"1"', "NaN", "[]",
        "9" * 4_000,
    )],
    *[("coin", "gettxout", f'{{"value": 1, "scriptPubKey": {script}}}') for script in (
        "null", "7", "{}", '{"hex": 7}', '{"hex": "5"}',
    )],
    *[("is_waiting", "getmempoolentry", value) for value in ("true", "false", "7", '"yes"', "[]")],
    *[("fee_rate", "estimatesmartfee", f'{{"feerate": {rate}}}') for rate in (
        "-2", "true", '"1"', "21000001", "1e999999999", "Infinity", "[]",
    )],
]  # fmt: skip


@pytest.mark.parametrize(("verb", "method", "lie"), LIES, ids=[f"{verb} {lie[:60]}" for verb, _, lie in LIES])
async def test_what_cannot_be_true_is_refused(way: str, verb: str, method: str, lie: str) -> None:
    async with opened(way, but(method, lie)) as (chain, _):
        assert await refusal(chain, verb) == "chain_answer_unreadable"


@pytest.mark.parametrize("cannot_tell", ["{}", "null", "[]", '{"feerate": null}', '{"fee": -1}', '{"feerate": 0}'])
async def test_a_node_that_cannot_tell_a_fee_says_so_in_many_ways(way: str, cannot_tell: str) -> None:
    async with opened(way, but("estimatesmartfee", cannot_tell)) as (chain, _):
        assert await chain.fee_rate(6) is None


async def test_a_header_without_the_work_that_it_states_is_refused(way: str) -> None:
    # The easiest target of mainnet, stated and not met: a header that costs nothing, under a hash of its own.
    forged = BLOCK.header[:72] + bytes.fromhex("ffff001d") + BLOCK.header[76:]
    async with opened(way, but("getblockheader", f'"{forged.hex()}"')) as (chain, _):
        assert await refusal(chain, "header") == "chain_answer_unreadable"


async def test_a_header_easier_than_the_network_allows_is_refused(way: str) -> None:
    assert decode_header(BLOCK.header).target > MAINNET.target_max
    async with opened(way, honest, network=MAINNET) as (chain, _):
        assert await refusal(chain, "header") == "chain_answer_unreadable"


@pytest.mark.parametrize("code", ["0", "-32601", "1e5", '"x"', "null", "[]", "{}", "true", "9" * 4_000, "-342"])
async def test_an_error_of_any_kind_is_a_refusal_of_ours(way: str, code: str) -> None:
    error = f'{{"result": null, "id": 1, "error": {{"code": {code}, "message": "{"no " * 20_000}"}}}}'
    async with opened(way, says(http(error.encode()))) as (chain, _):
        for verb in VERBS:
            if verb == "fee_rate":
                with suppress(Unavailable):
                    assert await chain.fee_rate(6) is None
            else:
                assert await refusal(chain, verb) in CODES, verb


async def test_a_node_that_holds_nothing_of_what_it_took_is_told(way: str) -> None:
    async def conduct(line: Line, question: dict[str, Any]) -> None:
        is_sent = question["method"] == "sendrawtransaction"
        error = None if is_sent else {"code": -5, "message": "not there"}
        line[1].write(answer(question, HONEST["sendrawtransaction"] if is_sent else None, error=error))
        await line[1].drain()

    async with opened(way, conduct) as (chain, _):
        assert await refusal(chain, "broadcast") == "transaction_refused"
        assert await chain.coin(Outpoint(transaction_id=TransactionId(bytes(32)), index=0)) is None

"""A Bitcoin node over JSON-RPC, in our own words.

Owns what questions are asked and what may be believed of an answer: a header must hash to the block that was asked for,
and the transaction ids to its Merkle root. How a question travels is the caller's: aiohttp here, python-bitcoinrpc in
`bitcoin_rpc_lib.py`. Must never sign, never use the node's wallet, never retry.

Whatever a node sends is bounded before it is looked at (time, bytes) and while it is (depth, digits, range): it costs a
refusal with a code, never more.

Only calls that Bitcoin Core and bcoin answer alike are used. Where they differ:
* bcoin's sendrawtransaction answers before it has looked at the transaction, also at one that it then refuses: so the
  node is asked what it holds, more than once, because it looks between two answers;
* both refuse to find what is not there by errors of different numbers.

Source: developer.bitcoin.org/reference/rpc, Bitcoin Core `src/rpc/protocol.h` (error numbers).
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp

from appliance.config.secret import Secret
from appliance.evidence.block import Network, decode_header, merkle_root, shown
from appliance.evidence.transaction import CHANGE_INDEX
from appliance.model.errors import Rejected, Unavailable
from appliance.ports.chain import Block, BlockHash, Coin, Outpoint, Tip, TransactionId

ANSWER_MS_MAX: Final = 60_000
ANSWER_BYTES_MAX: Final = 256 << 10  # the largest that is asked for: a coin with a script of 10,000 bytes, said twice
BLOCK_BYTES_MAX: Final = 2 << 20  # the ids of the fullest possible block are 1.2 MB of JSON
HEIGHT_MAX: Final = (1 << 31) - 1  # nodes count in 32 bits
COINS_MAX: Final = 21_000_000
HELD_CHECKS_MAX: Final = 20  # Core needs one; bcoin runs on one thread and needed 3 at most
SAT_PER_COIN: Final = 100_000_000
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

# Error numbers that mean "there is no such thing": Core's -5 and -8, bcoin's -1 and -8.
_NOT_THERE: Final = frozenset({-1, -5, -8})
# "already in block chain": what was handed in lies where it should.
_IN_CHAIN: Final = -27


class RpcError(Exception):
    """The node answered with an error of its own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


Caller = Callable[[str, list[Any]], Awaitable[Any]]
"""Asks one method with its parameters. Raises RpcError for the node's refusals, else as `ports/chain.py`."""


class BitcoinRpc:
    """Satisfies `ports/chain.py` for a node of one network."""

    def __init__(
        self, *, call: Caller, network: Network, close: Callable[[], Awaitable[None]], deadline_ms: int
    ) -> None:
        self._caller = call
        self._network = network
        self._close = close
        self._deadline_ms = deadline_ms
        self._is_known = False

    @classmethod
    async def open(cls, *, url: str, credential: Secret, network: Network, deadline_ms: int = ANSWER_MS_MAX) -> Self:
        """Make ready to ask; nothing is asked yet.

        Args:
            credential: `user:password`, as in Core's cookie file.
            deadline_ms: for one answer; a node that takes longer is away.
        Raises:
            Rejected: `chain_address_insecure`.
        """
        caller = HttpCaller(url=url, credential=credential)
        return cls(call=caller.call, network=network, close=caller.close, deadline_ms=deadline_ms)

    async def tip(self) -> Tip:
        await self._know_network()
        answer = await self._ask("getblockchaininfo", [])
        return Tip(height=_whole(answer, "blocks"), block_hash=BlockHash(_hash(_member(answer, "bestblockhash"))))

    async def block_hash(self, height: int) -> BlockHash | None:
        answer = await self._ask("getblockhash", [height])
        return None if answer is None else BlockHash(_hash(answer))

    async def header(self, block_hash: BlockHash) -> bytes | None:
        encoded = await self._ask("getblockheader", [shown(block_hash), False])
        if encoded is None:
            return None
        header = _octets(encoded)
        try:
            decoded = decode_header(header)
        except Rejected as cause:
            raise unreadable(f"no header: {cause.detail}") from cause
        if decoded.block_hash != block_hash:
            raise unreadable("another block than the one that was asked for")
        if decoded.target > self._network.target_max:
            raise unreadable(f"a header easier than any of {self._network.name}")
        return header

    async def block(self, block_hash: BlockHash) -> Block | None:
        header = await self.header(block_hash)
        answer = None if header is None else await self._ask("getblock", [shown(block_hash), True])
        if header is None or answer is None:
            return None
        ids = tuple(TransactionId(_hash(each)) for each in _listed(_member(answer, "tx")))
        if not ids or merkle_root(ids) != header[36:68]:
            raise unreadable("transactions that are not the block's")
        return Block(header=header, transaction_ids=ids)

    async def coin(self, outpoint: Outpoint) -> Coin | None:
        answer = await self._ask("gettxout", [shown(outpoint.transaction_id), outpoint.index, False])
        if answer is None:
            return None
        script = _octets(_member(_member(answer, "scriptPubKey"), "hex"))
        return Coin(outpoint=outpoint, value_sat=_satoshi(_member(answer, "value")), script=script)

    async def is_waiting(self, transaction_id: TransactionId) -> bool:
        answer = await self._ask("getmempoolentry", [shown(transaction_id)])
        if answer is not None and not isinstance(answer, dict):
            raise unreadable("no entry where one belongs")
        return answer is not None

    async def fee_rate(self, blocks: int) -> int | None:
        try:
            answer = await self._call("estimatesmartfee", [blocks])
        except RpcError:
            return None  # switched off, or too few blocks seen: either way it cannot tell
        # Core leaves `feerate` out while it cannot tell, bcoin says -1 under the name `fee`.
        rate = answer.get("feerate", answer.get("fee")) if isinstance(answer, dict) else None
        return (_satoshi(rate) or None) if rate is not None and rate != -1 else None

    async def broadcast(self, transaction: bytes, transaction_id: TransactionId) -> None:
        refusal = ""
        try:
            await self._call("sendrawtransaction", [transaction.hex()])
        except RpcError as error:
            if error.code == _IN_CHAIN:
                return
            # Also what the node holds already may be refused.
            refusal = str(error)[:200]
        change = Outpoint(transaction_id=transaction_id, index=CHANGE_INDEX)
        for _ in range(1 if refusal else HELD_CHECKS_MAX):
            if await self.is_waiting(transaction_id) or await self.coin(change) is not None:
                return
        detail = f"the node does not hold {shown(transaction_id)}; {refusal or 'it did not say why'}"
        raise Rejected("transaction_refused", detail)

    async def close(self) -> None:
        await self._close()

    async def _know_network(self) -> None:
        if self._is_known:
            return
        if await self.block_hash(0) != self._network.genesis:
            raise Rejected("chain_other_network", f"expected a node of {self._network.name}, saw another first block")
        self._is_known = True

    async def _call(self, method: str, parameters: list[Any]) -> Any:
        try:
            async with asyncio.timeout(self._deadline_ms / 1_000):
                return await self._caller(method, parameters)
        except TimeoutError as cause:
            raise Unavailable("chain_away", f"no answer to {method} within {self._deadline_ms} ms") from cause

    async def _ask(self, method: str, parameters: list[Any]) -> Any:
        """The answer; None when what was asked for is not there."""
        try:
            return await self._call(method, parameters)
        except RpcError as error:
            if error.code in _NOT_THERE:
                return None
            raise Unavailable("chain_away", f"the node refused {method}: {str(error)[:200]}") from error


class HttpCaller:
    """JSON-RPC 1.0 over aiohttp, one connection pool."""

    def __init__(self, *, url: str, credential: Secret) -> None:
        check_address(url)
        self._url = url
        user, _, password = credential.reveal_text().strip().partition(":")
        self._http = aiohttp.ClientSession(
            headers={"Authorization": aiohttp.encode_basic_auth(user, password, encoding="utf-8")},
            timeout=aiohttp.ClientTimeout(total=None),  # time is the caller's
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a thousandth of the bytes would pass the bound
        )
        self._ids = itertools.count(1)

    async def call(self, method: str, parameters: list[Any]) -> Any:
        number = next(self._ids)
        body = json.dumps({"jsonrpc": "1.0", "id": number, "method": method, "params": parameters})
        try:
            async with self._http.post(self._url, data=body, allow_redirects=False) as answer:
                if answer.status in (401, 403):
                    raise Rejected("chain_credential_refused", "the node does not accept the user and password")
                encoded = await _read(answer, bytes_max(method))
        except (aiohttp.ClientError, OSError) as cause:
            raise Unavailable("chain_away", f"the node does not answer: {type(cause).__name__}") from cause
        # A full block's answer takes 10 ms to parse.
        parsed = await asyncio.to_thread(_parsed, encoded)
        return _result_of(parsed, number)

    async def close(self) -> None:
        await self._http.close()


def bytes_max(method: str) -> int:
    """How long the answer to `method` may be."""
    return BLOCK_BYTES_MAX if method == "getblock" else ANSWER_BYTES_MAX


def _result_of(answer: Any, number: int) -> Any:
    """What the JSON-RPC answer to question `number` holds.

    Raises:
        RpcError: an error of the node.
        Unavailable: `chain_answer_unreadable`.
    """
    if not isinstance(answer, dict) or "result" not in answer:
        raise unreadable("no JSON-RPC answer")
    error = answer.get("error")
    if error is not None:
        code, message = _member(error, "code"), _member(error, "message")
        if not isinstance(code, int):
            raise unreadable("an error without a number")
        raise RpcError(code, str(message))
    if answer.get("id") != number:
        raise unreadable("an answer to another question")
    return answer["result"]


def check_address(url: str) -> None:
    """Basic authentication shows its password to the wire: refuse plain HTTP to another machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Rejected("chain_address_insecure", "the node's address must be https, or http on this machine")


async def _read(answer: aiohttp.ClientResponse, size_max: int) -> bytes:
    try:
        encoded = await answer.content.readexactly(size_max + 1)
    except asyncio.IncompleteReadError as whole:
        return whole.partial
    raise unreadable(f"an answer of {len(encoded)} bytes or more")


def _parsed(encoded: bytes) -> Any:
    try:
        return json.loads(encoded, parse_float=Decimal)  # a float would lose satoshis
    except (ValueError, RecursionError, ArithmeticError) as cause:
        # An integer of too many digits, too deep, an exponent beyond what Decimal can hold.
        raise unreadable("no JSON") from cause


def _member(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise unreadable(f"no {name}")
    return answer[name]


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise unreadable("no list where one belongs")
    return value


def _whole(answer: Any, name: str) -> int:
    value = _member(answer, name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= HEIGHT_MAX:
        raise unreadable(f"{name} is no count")
    return value


def _octets(value: Any) -> bytes:
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError) as cause:
        raise unreadable("no hexadecimal bytes where they belong") from cause


def _hash(value: Any) -> bytes:
    octets = _octets(value)
    if len(octets) != 32:
        raise unreadable("no hash where one belongs")
    return octets[::-1]


def _satoshi(value: Any) -> int:
    # Compared before it is multiplied: an exponent of nine digits would be written out.
    if not isinstance(value, int | Decimal) or isinstance(value, bool) or not 0 <= value <= COINS_MAX:
        raise unreadable("no amount where one belongs")
    return int(value * SAT_PER_COIN)


def unreadable(detail: str) -> Unavailable:
    return Unavailable("chain_answer_unreadable", f"the node's answer: {detail}")

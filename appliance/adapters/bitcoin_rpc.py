"""A Bitcoin node over JSON-RPC, in our own words.

Owns what questions are asked and what may be believed of an answer: a header must hash to the block that was asked for,
and the transaction ids to its Merkle root. How a question travels is the caller's: aiohttp here, python-bitcoinrpc in
`bitcoin_rpc_lib.py`. Must never sign, never use the node's wallet, never retry.

Only calls that Bitcoin Core and bcoin answer alike are used. Where they differ:
* bcoin's sendrawtransaction answers before it has looked at the transaction, also at one that it then refuses: so the
  node is asked what it holds, more than once, because it looks between two answers;
* both refuse to find what is not there by errors of different numbers.

Source: developer.bitcoin.org/reference/rpc, Bitcoin Core `src/rpc/protocol.h` (error numbers).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp

from appliance.config.secret import Secret
from appliance.evidence.block import HEADER_BYTES, Network, double_sha256, merkle_root, shown
from appliance.evidence.transaction import CHANGE_INDEX
from appliance.model.errors import Rejected, Unavailable
from appliance.ports.chain import Block, BlockHash, Coin, Outpoint, Tip, TransactionId

ANSWER_BYTES_MAX: Final = 8 << 20  # the ids of the fullest possible block are 1.6 MB of JSON
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

    def __init__(self, *, call: Caller, network: Network, close: Callable[[], Awaitable[None]]) -> None:
        self._call = call
        self._network = network
        self._close = close
        self._is_known = False

    @classmethod
    async def open(cls, *, url: str, credential: Secret, network: Network) -> Self:
        """Make ready to ask; nothing is asked yet.

        Args:
            credential: `user:password`, as in Core's cookie file.
        Raises:
            Rejected: `chain_address_insecure`.
        """
        caller = HttpCaller(url=url, credential=credential)
        return cls(call=caller.call, network=network, close=caller.close)

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
        if len(header) != HEADER_BYTES or double_sha256(header) != block_hash:
            raise _unreadable("another block than the one that was asked for")
        return header

    async def block(self, block_hash: BlockHash) -> Block | None:
        header = await self.header(block_hash)
        answer = None if header is None else await self._ask("getblock", [shown(block_hash), True])
        if header is None or answer is None:
            return None
        ids = tuple(TransactionId(_hash(each)) for each in _listed(_member(answer, "tx")))
        if not ids or merkle_root(ids) != header[36:68]:
            raise _unreadable("transactions that are not the block's")
        return Block(header=header, transaction_ids=ids)

    async def coin(self, outpoint: Outpoint) -> Coin | None:
        answer = await self._ask("gettxout", [shown(outpoint.transaction_id), outpoint.index, False])
        if answer is None:
            return None
        script = _octets(_member(_member(answer, "scriptPubKey"), "hex"))
        return Coin(outpoint=outpoint, value_sat=_satoshi(_member(answer, "value")), script=script)

    async def is_waiting(self, transaction_id: TransactionId) -> bool:
        return await self._ask("getmempoolentry", [shown(transaction_id)]) is not None

    async def fee_rate(self, blocks: int) -> int | None:
        try:
            answer = await self._call("estimatesmartfee", [blocks])
        except RpcError:
            return None  # switched off, or too few blocks seen: either way it cannot tell
        # Core leaves `feerate` out while it cannot tell, bcoin says -1 under the name `fee`.
        rate = answer.get("feerate", answer.get("fee")) if isinstance(answer, dict) else None
        return _satoshi(rate) if isinstance(rate, int | Decimal) and rate > 0 else None

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
        )

    async def call(self, method: str, parameters: list[Any]) -> Any:
        body = json.dumps({"jsonrpc": "1.0", "id": method, "method": method, "params": parameters})
        try:
            async with self._http.post(self._url, data=body, allow_redirects=False) as answer:
                if answer.status in (401, 403):
                    raise Rejected("chain_credential_refused", "the node does not accept the user and password")
                encoded = await _read(answer)
        except (aiohttp.ClientError, OSError) as cause:
            raise Unavailable("chain_away", f"the node does not answer: {type(cause).__name__}") from cause
        # A full block's answer takes 10 ms to parse.
        parsed = await asyncio.to_thread(_parsed, encoded)
        return result_of(parsed)

    async def close(self) -> None:
        await self._http.close()


def result_of(answer: Any) -> Any:
    """What a JSON-RPC answer holds.

    Raises:
        RpcError: an error of the node.
        Unavailable: `chain_answer_unreadable`.
    """
    if not isinstance(answer, dict) or "result" not in answer:
        raise _unreadable("no JSON-RPC answer")
    error = answer.get("error")
    if error is not None:
        code, message = _member(error, "code"), _member(error, "message")
        raise RpcError(code if isinstance(code, int) else 0, str(message))
    return answer["result"]


def check_address(url: str) -> None:
    """Basic authentication shows its password to the wire: refuse plain HTTP to another machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Rejected("chain_address_insecure", "the node's address must be https, or http on this machine")


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    try:
        encoded = await answer.content.readexactly(ANSWER_BYTES_MAX + 1)
    except asyncio.IncompleteReadError as whole:
        return whole.partial
    raise _unreadable(f"an answer of {len(encoded)} bytes or more")


def _parsed(encoded: bytes) -> Any:
    try:
        return json.loads(encoded, parse_float=Decimal)  # a float would lose satoshis
    except (ValueError, RecursionError) as cause:
        raise _unreadable("no JSON") from cause


def _member(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise _unreadable(f"no {name}")
    return answer[name]


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _unreadable("no list where one belongs")
    return value


def _whole(answer: Any, name: str) -> int:
    value = _member(answer, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _unreadable(f"{name} is no count")
    return value


def _octets(value: Any) -> bytes:
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError) as cause:
        raise _unreadable("no hexadecimal bytes where they belong") from cause


def _hash(value: Any) -> bytes:
    octets = _octets(value)
    if len(octets) != 32:
        raise _unreadable("no hash where one belongs")
    return octets[::-1]


def _satoshi(value: Any) -> int:
    if not isinstance(value, int | Decimal):
        raise _unreadable("no amount where one belongs")
    return int(value * SAT_PER_COIN)


def _unreadable(detail: str) -> Unavailable:
    return Unavailable("chain_answer_unreadable", f"the node's answer: {detail}")

"""A block store in an IPFS node (Kubo or js-ipfs), over its RPC.

Must never wait longer than its deadline, read more than a block, or follow a redirect.

* A missing block hangs a node for ever, so each question carries the node's own `timeout` and is given up soon after.
* `dag/import` because `block/put` differs between nodes; `pin-roots` makes it keep everything that the root links to.
* The RPC is an administrator's door without a password: it belongs on this machine or behind a tunnel.

Source: docs.ipfs.tech/reference/kubo/rpc.
"""

from __future__ import annotations

import asyncio
import io
from typing import Final, Self

import aiohttp
import msgspec

from appliance.adapters.ipfs_reply import (
    ANSWER_BYTES_MAX,
    BLOCK,
    IMPORT,
    PINS,
    away,
    failure,
    imported_root,
    is_unpinned,
    pinned,
    refused,
)
from appliance.evidence.car import BLOCK_BYTES_MAX
from appliance.evidence.cid import cid_text
from appliance.model.ids import Cid

GRACE_MS: Final = 1_000
"""After the node's own timeout: an answer that says so is better than none."""
_READ_BYTES: Final = 64 << 10


class _Failure(msgspec.Struct, frozen=True):
    message: str = msgspec.field(name="Message")


class IpfsHttp:
    """Satisfies `ports/block_store.py`."""

    def __init__(self, *, http: aiohttp.ClientSession, api_base: str, deadline_ms: int) -> None:
        self._http = http
        self._api = f"{api_base.rstrip('/')}/api/v0"
        self._deadline_ms = deadline_ms

    @classmethod
    async def open(cls, *, api_base: str, deadline_ms: int) -> Self:
        """Make the connection pool; nothing is asked yet.

        Args:
            api_base: address of the RPC, such as http://127.0.0.1:5001.
            deadline_ms: of each question.
        """
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1),
            timeout=aiohttp.ClientTimeout(total=None),  # the deadline is ours
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return cls(http=http, api_base=api_base, deadline_ms=deadline_ms)

    async def keep(self, car: bytes) -> Cid:
        form = aiohttp.FormData()
        # As a stream: bytes in one piece of more than 1 MiB would hold up the event loop.
        form.add_field("file", io.BytesIO(car), filename="publication.car", content_type="application/vnd.ipld.car")
        status, body = await self._ask(IMPORT, {"pin-roots": "true"}, ANSWER_BYTES_MAX, form)
        if status != 200:
            raise failure(IMPORT, _message(body))
        return imported_root(_decoded(body))

    async def block(self, cid: Cid) -> bytes:
        status, body = await self._ask(BLOCK, {"arg": cid_text(cid)}, BLOCK_BYTES_MAX)
        if status != 200:
            raise failure(BLOCK, _message(body))
        return body

    async def is_kept(self, cid: Cid) -> bool:
        status, body = await self._ask(PINS, {"arg": cid_text(cid), "type": "recursive"}, ANSWER_BYTES_MAX)
        if status == 200:
            return cid in pinned(_decoded(body))
        if is_unpinned(_message(body)):
            return False
        raise failure(PINS, _message(body))

    async def close(self) -> None:
        await self._http.close()

    async def _ask(
        self, verb: str, question: dict[str, str], size_max: int, form: aiohttp.FormData | None = None
    ) -> tuple[int, bytes]:
        """Status and body, at most `size_max` bytes of it."""
        question["timeout"] = f"{self._deadline_ms}ms"
        try:
            async with (
                asyncio.timeout((self._deadline_ms + GRACE_MS) / 1000),
                self._http.post(f"{self._api}/{verb}", params=question, data=form, allow_redirects=False) as answer,
            ):
                body = bytearray()
                async for piece in answer.content.iter_chunked(_READ_BYTES):
                    body += piece
                    if len(body) > size_max:
                        raise refused(f"at most {size_max} bytes from {verb}")
                return answer.status, bytes(body)
        except TimeoutError as cause:
            raise away(f"nothing within {self._deadline_ms} ms") from cause
        except (aiohttp.ClientError, OSError) as cause:
            raise away(type(cause).__name__) from cause


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise refused("JSON") from cause


def _message(body: bytes) -> str:
    """What an error says; nodes put it into `Message`, proxies do not."""
    try:
        return msgspec.json.decode(body, type=_Failure).message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "an unreadable error"

"""The same block store through the library `ipfshttpclient`: an option for those who have it in use already.

Must never be imported by a process that is not configured for it: the package is installed by whoever wants it.

* The library is synchronous and bounds each read, not the whole: it lives on an owner thread, which bounds the whole.
* `Client(address)` skips the library's version check, which knows no node of today and asks on its own.
* It follows redirects and offers no way not to: `ipfs_http.py` is the stricter one, and the default.

Source: ipfshttpclient 0.8.0a2.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import ipaddress
from collections.abc import Callable
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from appliance.adapters.ipfs_http import GRACE_MS
from appliance.adapters.ipfs_reply import (
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
from appliance.adapters.owner_thread import OwnerThread, SessionKind
from appliance.evidence.car import BLOCK_BYTES_MAX
from appliance.evidence.cid import cid_text
from appliance.model.errors import OutcomeUnknown, Rejected, TillstoneError
from appliance.model.ids import Cid

_Answer = TypeVar("_Answer")


class IpfsClient:
    """Satisfies `ports/block_store.py`."""

    def __init__(self, *, api_base: str, deadline_ms: int) -> None:
        self._deadline_ms = deadline_ms
        self._options = {"timeout": f"{deadline_ms}ms"}
        address, timeout_s = multiaddress(api_base), (deadline_ms + GRACE_MS) / 1000

        def connect() -> Any:
            library = importlib.import_module("ipfshttpclient")
            return library.Client(address, session=True, timeout=timeout_s)

        self._thread: OwnerThread[Any] = OwnerThread(
            kind=SessionKind(
                name="ipfs",
                open=connect,
                close=lambda client: client.close(),
                translate=_translate,
                is_fatal=lambda error: not isinstance(error, TillstoneError),
            )
        )

    @classmethod
    async def open(cls, *, api_base: str, deadline_ms: int) -> Self:
        """As `IpfsHttp.open`. Raises Rejected `block_store_library_missing`, `block_store_address_unsupported`."""
        if importlib.util.find_spec("ipfshttpclient") is None:
            raise Rejected("block_store_library_missing", "expected the package ipfshttpclient to be installed")
        return cls(api_base=api_base, deadline_ms=deadline_ms)

    async def keep(self, car: bytes) -> Cid:
        options = self._options | {"pin-roots": "true"}
        answer = await self._ask(IMPORT, lambda client: client.dag.imprt(io.BytesIO(car), opts=options))
        return imported_root(_plain(answer))

    async def block(self, cid: Cid) -> bytes:
        def get(client: Any) -> bytes:
            body = bytearray()
            with client.block.get(cid_text(cid), opts=self._options, stream=True) as pieces:
                for piece in pieces:
                    body += piece
                    if len(body) > BLOCK_BYTES_MAX:
                        raise refused(f"at most {BLOCK_BYTES_MAX} bytes from {BLOCK}")
            return bytes(body)

        return await self._ask(BLOCK, get)

    async def is_kept(self, cid: Cid) -> bool:
        def listed(client: Any) -> object:
            return client.pin.ls(cid_text(cid), type="recursive", opts=self._options)

        try:
            answer = await self._ask(PINS, listed)
        except Rejected as refusal:
            if is_unpinned(refusal.detail):
                return False
            raise
        return cid in pinned(_plain(answer))

    async def close(self) -> None:
        await self._thread.close()

    async def _ask(self, verb: str, call: Callable[[Any], _Answer]) -> _Answer:
        try:
            return await self._thread.run(lambda client: _named(verb, client, call), self._deadline_ms + GRACE_MS)
        except OutcomeUnknown as cause:
            # Nothing here has an outcome that matters twice: the same block may be kept again.
            raise away(f"nothing within {self._deadline_ms} ms") from cause


def multiaddress(api_base: str) -> str:
    """The address in the library's own form. Raises Rejected `block_store_address_unsupported`."""
    parts = urlsplit(api_base)
    if parts.hostname is None or parts.path.strip("/"):
        raise Rejected("block_store_address_unsupported", "expected an address without a path for ipfshttpclient")
    try:
        host = f"/ip{ipaddress.ip_address(parts.hostname).version}/{parts.hostname}"
    except ValueError:
        host = f"/dns/{parts.hostname}"
    return f"{host}/tcp/{parts.port or {'http': 80, 'https': 443}[parts.scheme]}/{parts.scheme}"


def _named(verb: str, client: Any, call: Callable[[Any], _Answer]) -> _Answer:
    """Run `call` on the owner thread; the node's own error gets the verb's name."""
    library = importlib.import_module("ipfshttpclient.exceptions")
    try:
        return call(client)
    except library.ErrorResponse as cause:
        raise failure(verb, str(cause)) from cause


def _translate(error: Exception) -> TillstoneError | None:
    """What the library raises when no whole answer comes, or none that it can read."""
    library = importlib.import_module("ipfshttpclient.exceptions")
    # The library asserts that an answer is one object.
    if isinstance(error, library.StatusError | library.EncoderError | AssertionError | LookupError):
        return refused("an answer of an IPFS node")
    # A body that breaks off comes as an error of the library below, undeclared.
    if isinstance(error, library.CommunicationError | OSError):
        return away(type(error).__name__)
    return None


def _plain(answer: Any) -> object:
    """The library wraps one JSON object and leaves several in a list."""
    return answer.as_json() if hasattr(answer, "as_json") else answer

"""The same node through the library python-bitcoinrpc, for who has it in use already.

Optional: imported when it is opened. The library's proxy must not be shared between threads (300 of 400 calls failed)
and stays broken after its node restarted, so each call makes its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import io
import socket
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from typing_extensions import override

from appliance.adapters.bitcoin_rpc import (
    ANSWER_MS_MAX,
    BitcoinRpc,
    RpcError,
    bytes_max,
    check_address,
    unreadable,
)
from appliance.config.secret import Secret
from appliance.evidence.block import Network
from appliance.model.errors import Rejected, Unavailable

SOCKET_S_MAX: Final = 60
"""For each byte; the whole answer has the caller's deadline, after which the line is cut."""
_HEAD_BYTES_MAX: Final = 64 << 10
_LIBRARY_CODES: Final = frozenset({-342, -343})  # the library's own numbers for an answer that is no JSON-RPC


async def open_library(
    *, url: str, credential: Secret, network: Network, deadline_ms: int = ANSWER_MS_MAX
) -> BitcoinRpc:
    """Make ready to ask; nothing is asked yet.

    Args:
        deadline_ms: as for `BitcoinRpc.open`.
    Raises:
        Rejected: `chain_address_insecure`, `chain_library_missing`.
    """
    check_address(url)
    try:
        library = await asyncio.to_thread(importlib.import_module, "bitcoinrpc.authproxy")
    except ImportError as cause:
        raise Rejected("chain_library_missing", "python-bitcoinrpc is not installed") from cause
    caller = _LibraryCaller(library=library, url=_with(url, credential))
    return BitcoinRpc(call=caller.call, network=network, close=caller.close, deadline_ms=deadline_ms)


class _LibraryCaller:
    def __init__(self, *, library: Any, url: Secret) -> None:
        self._library = library
        self._url = url

    async def call(self, method: str, parameters: list[Any]) -> Any:
        line = _Line(self._url.reveal_text(), bytes_max(method))
        try:
            return await asyncio.to_thread(self._call, line, method, parameters)
        except asyncio.CancelledError:
            line.cut()
            raise

    async def close(self) -> None:
        return None

    def _call(self, line: _Line, method: str, parameters: list[Any]) -> Any:
        proxy = self._library.AuthServiceProxy(
            self._url.reveal_text(), timeout=SOCKET_S_MAX, connection=line.connection, service_name=method
        )
        try:
            return proxy(*parameters)
        except self._library.JSONRPCException as error:
            if not isinstance(error.code, int) or error.code in _LIBRARY_CODES:
                raise unreadable("no JSON-RPC") from error
            raise RpcError(error.code, str(error.message)) from error
        except (OSError, http.client.HTTPException) as cause:
            raise Unavailable("chain_away", f"the node does not answer: {type(cause).__name__}") from cause
        except (ValueError, ArithmeticError, RecursionError, AttributeError, TypeError, LookupError) as cause:
            # The library does not look at what it takes apart.
            raise unreadable("no JSON-RPC") from cause
        finally:
            line.close()


class _Line:
    """One connection for one question, made here because the library leaves closing to the garbage collector."""

    def __init__(self, url: str, size_max: int) -> None:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.hostname or "", parts.port, timeout=SOCKET_S_MAX)
        self._size_max = size_max
        self._socket: socket.socket | None = None
        self._response: _Response | None = None
        vars(self.connection)["response_class"] = self._respond

    def cut(self) -> None:
        """End a thread that waits for an answer which comes byte by byte: its own timeout is for one byte."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        self.connection.close()

    def _respond(self, opened: socket.socket, **how: Any) -> _Response:
        self._socket = opened
        self._response = _Response(opened, self._size_max, **how)
        return self._response


class _Response(http.client.HTTPResponse):
    """An answer of bounded length; the library would read any."""

    def __init__(self, opened: socket.socket, size_max: int, **how: Any) -> None:
        super().__init__(opened, **how)
        self._size_max = size_max
        self.fp.close()
        self.fp = io.BufferedReader(_Counted(opened, size_max + _HEAD_BYTES_MAX))

    @override
    def begin(self) -> None:
        super().begin()
        if self.status in (401, 403):
            raise Rejected("chain_credential_refused", "the node does not accept the user and password")

    @override
    def read(self, amt: int | None = None) -> bytes:
        # Never the length that the node states: so much would be set aside before the first byte comes.
        return super().read(self._size_max)


class _Counted(io.RawIOBase):
    """The bytes of one answer, heads and padding too, until they are too many."""

    def __init__(self, opened: socket.socket, size_max: int) -> None:
        self._inner = opened.makefile("rb", buffering=0)
        self._left = size_max

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any, /) -> int | None:
        count = self._inner.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise unreadable("more bytes than any true one has")
        return count

    @override
    def close(self) -> None:
        self._inner.close()
        super().close()


def _with(url: str, credential: Secret) -> Secret:
    parts = urlsplit(url)
    user, _, password = credential.reveal_text().strip().partition(":")
    host = f"{user}:{password}@{parts.netloc}"  # as it is: the library does not decode what is quoted
    return Secret(urlunsplit(parts._replace(netloc=host, path=parts.path or "/")).encode())

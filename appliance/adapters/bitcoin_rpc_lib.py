"""The same node through the library python-bitcoinrpc, for who has it in use already.

Optional: imported when it is opened. The library's proxy must not be shared between threads (300 of 400 calls failed)
and stays broken after its node restarted, so each call makes its own.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib
import json
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from appliance.adapters.bitcoin_rpc import BitcoinRpc, RpcError, check_address
from appliance.config.secret import Secret
from appliance.evidence.block import Network
from appliance.model.errors import Rejected, Unavailable

SOCKET_S_MAX: Final = 60
"""A thread cannot be cancelled; the caller has long gone when this ends it."""
_LIBRARY_CODES: Final = frozenset({-342, -343})  # the library's own numbers for an answer that is no JSON-RPC


async def open_library(*, url: str, credential: Secret, network: Network) -> BitcoinRpc:
    """Make ready to ask; nothing is asked yet.

    Raises:
        Rejected: `chain_address_insecure`, `chain_library_missing`.
    """
    check_address(url)
    try:
        library = await asyncio.to_thread(importlib.import_module, "bitcoinrpc.authproxy")
    except ImportError as cause:
        raise Rejected("chain_library_missing", "python-bitcoinrpc is not installed") from cause
    caller = _LibraryCaller(library=library, url=_with(url, credential))
    return BitcoinRpc(call=caller.call, network=network, close=caller.close)


class _LibraryCaller:
    def __init__(self, *, library: Any, url: Secret) -> None:
        self._library = library
        self._url = url

    async def call(self, method: str, parameters: list[Any]) -> Any:
        return await asyncio.to_thread(self._call, method, parameters)

    async def close(self) -> None:
        return None

    def _call(self, method: str, parameters: list[Any]) -> Any:
        connection = _connection(self._url.reveal_text())
        proxy = self._library.AuthServiceProxy(
            self._url.reveal_text(), timeout=SOCKET_S_MAX, connection=connection, service_name=method
        )
        try:
            return proxy(*parameters)
        except self._library.JSONRPCException as error:
            text = str(error.message)
            if error.code in _LIBRARY_CODES and ("'401" in text or "'403" in text):
                raise Rejected("chain_credential_refused", "the node does not accept the user and password") from error
            if error.code in _LIBRARY_CODES:
                raise Unavailable("chain_answer_unreadable", "the node's answer: no JSON-RPC") from error
            raise RpcError(error.code if isinstance(error.code, int) else 0, text) from error
        except (OSError, http.client.HTTPException) as cause:
            raise Unavailable("chain_away", f"the node does not answer: {type(cause).__name__}") from cause
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError, KeyError) as cause:
            # The library does not look at what it takes apart.
            raise Unavailable("chain_answer_unreadable", "the node's answer: no JSON-RPC") from cause
        finally:
            connection.close()


def _connection(url: str) -> http.client.HTTPConnection:
    # Ours, so that it can be closed: the library leaves that to the garbage collector.
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=SOCKET_S_MAX)


def _with(url: str, credential: Secret) -> Secret:
    parts = urlsplit(url)
    user, _, password = credential.reveal_text().strip().partition(":")
    host = f"{user}:{password}@{parts.netloc}"  # as it is: the library does not decode what is quoted
    return Secret(urlunsplit(parts._replace(netloc=host, path=parts.path or "/")).encode())

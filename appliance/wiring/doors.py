"""Opens and closes the doors: sockets, TLS, and the file that says where they are."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec
from aiohttp import web

from appliance.config.schema import Settings

LOCAL_SOCKET = "local.sock"
DOORS_FILE = "doors.json"
_SHUTDOWN_S = 5.0
_SILENCE_S = 75.0
"""A connection without a whole request head for this long is closed; by itself the library waits an hour."""


class OpenDoor:
    """A listening application; `run` is its service, from now to the stop."""

    def __init__(self, runner: web.AppRunner, port: int | None) -> None:
        self._runner = runner
        self.port = port

    async def run(self) -> None:
        """Serve until cancelled, then let requests in flight end."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._runner.cleanup()


async def open_tcp(
    application: web.Application, *, host: str, port: int, tls: ssl.SSLContext | None = None
) -> OpenDoor:
    """Listen on a TCP port; 0 takes a free one."""
    runner = await _runner(application)
    await web.TCPSite(runner, host, port, ssl_context=tls, backlog=1024).start()
    return OpenDoor(runner, int(runner.addresses[0][1]))


async def open_local(application: web.Application, folder: Path) -> OpenDoor:
    """Listen on the Unix socket that only the box's own user may open."""
    path = folder / LOCAL_SOCKET
    path.unlink(missing_ok=True)
    runner = await _runner(application)
    await web.UnixSite(runner, str(path)).start()
    path.chmod(0o600)
    return OpenDoor(runner, None)


def tell_doors(folder: Path, doors: Mapping[str, int | None]) -> None:
    """Write where the doors are, for whoever started the process with port 0."""
    new = folder / f"{DOORS_FILE}.new"
    new.write_bytes(msgspec.json.encode(doors))
    new.rename(folder / DOORS_FILE)


def tls_context(settings: Settings) -> ssl.SSLContext:
    """TLS 1.3 only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(settings.pos.tls_certificate_path, settings.pos.tls_key_path)
    return context


def certificate_sha256(certificate_path: Path) -> bytes:
    """SHA-256 of the door's certificate, DER: what a QR code and a pairing proof name."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(_chain(certificate_path)[0])).digest()


def authority_pem(certificate_path: Path) -> str:
    """The last certificate of the door's chain; empty when the chain is the door's certificate alone."""
    chain = _chain(certificate_path)
    return chain[-1] if len(chain) > 1 else ""


def _chain(certificate_path: Path) -> list[str]:
    end = "-----END CERTIFICATE-----\n"
    return [part.lstrip() + end for part in certificate_path.read_text().split(end)[:-1]]


async def _runner(application: web.Application) -> web.AppRunner:
    # No access log: the middleware counts requests, and paths of strangers do not belong in a log.
    runner = web.AppRunner(
        application,
        access_log=None,
        keepalive_timeout=_SILENCE_S,
        shutdown_timeout=_SHUTDOWN_S,
        handler_cancellation=False,
    )
    await runner.setup()
    return runner

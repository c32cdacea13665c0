"""An OpenTimestamps calendar over HTTP.

Owns two requests, their deadline and their bounds. What comes back is checked for its form only: what a timestamp
proves is the follower's to ask, with the blocks.

Source: python-opentimestamps `calendar.py` (`RemoteCalendar`), the protocol that public calendars speak.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from appliance.evidence.ots_file import decode_timestamp
from appliance.model.errors import Rejected, Unavailable

ANSWER_BYTES_MAX: Final = 10_000  # the official client's
DEADLINE_MS: Final = 10_000
_ACCEPT: Final = {"Accept": "application/vnd.opentimestamps.v1"}
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class HttpCalendar:
    """One calendar; satisfies `ports/timestamp.py`."""

    def __init__(self, *, address: str, http: aiohttp.ClientSession, deadline_ms: int = DEADLINE_MS) -> None:
        """Raises Rejected: `calendar_address_insecure`: plain HTTP to another machine, anybody could answer."""
        parts = urlsplit(address)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise Rejected("calendar_address_insecure", "a calendar's address must be https, or http on this machine")
        self._address = address.rstrip("/")
        self._http = http
        self._deadline_ms = deadline_ms

    @property
    def address(self) -> str:
        return self._address

    async def submit(self, digest: bytes) -> bytes:
        status, answer = await self._ask("POST", "digest", digest)
        if status != 200:
            raise self._trouble(status)
        return self._read(answer, digest)

    async def lookup(self, commitment: bytes) -> bytes | None:
        status, answer = await self._ask("GET", f"timestamp/{commitment.hex()}")
        if status == 404:
            return None
        if status != 200:
            raise self._trouble(status)
        return self._read(answer, commitment)

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        url = f"{self._address}/{path}"
        try:
            async with (
                asyncio.timeout(self._deadline_ms / 1_000),
                self._http.request(method, url, data=body, headers=_ACCEPT, allow_redirects=False) as response,
            ):
                answer = b""
                while len(answer) <= ANSWER_BYTES_MAX and (more := await response.content.read(ANSWER_BYTES_MAX)):
                    answer += more
                return response.status, answer
        except TimeoutError as cause:
            detail = f"{self._address} did not answer within {self._deadline_ms} ms"
            raise Unavailable("calendar_away", detail) from cause
        except (aiohttp.ClientError, OSError) as cause:
            raise Unavailable("calendar_away", f"{self._address} cannot be asked: {type(cause).__name__}") from cause

    def _read(self, answer: bytes, message: bytes) -> bytes:
        if len(answer) > ANSWER_BYTES_MAX:
            raise Unavailable(
                "calendar_answer_unreadable", f"{self._address} answers more than {ANSWER_BYTES_MAX} bytes"
            )
        try:
            decode_timestamp(answer, message)
        except Rejected as cause:
            raise Unavailable("calendar_answer_unreadable", f"{self._address}: {cause.detail}") from cause
        return answer

    def _trouble(self, status: int) -> Rejected | Unavailable:
        if 400 <= status < 500 and status not in (408, 429):
            return Rejected("calendar_refused", f"{self._address} answers {status}")
        return Unavailable("calendar_away", f"{self._address} answers {status}")

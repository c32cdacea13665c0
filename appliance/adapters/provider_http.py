"""HTTP to a provider, as far as it is the same at every one: where it may go, what arrived whole, how it is read.

Must never know a vendor's words, retry, follow a redirect, or let aiohttp decide how long to wait. Time is the caller's
(`asyncio.timeout`); cancellation passes through and leaves the outcome open.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from appliance.model.errors import Rejected
from appliance.model.limits import MINUTE_MS
from appliance.ports.provider import (
    AcceptedOffline,
    Answer,
    Confirmed,
    Declined,
    NotSent,
    PartlyConfirmed,
    Refused,
    Unknown,
)

CLOCK_DISAGREEMENT_MAX_MS: Final = 5 * MINUTE_MS
"""A provider whose clock lies farther from ours lists another time than we ask about."""
CONNECTIONS_MAX: Final = 32
ASK_S_MAX: Final = 10.0
ANSWER_BYTES_MAX: Final = 1 << 20  # an order with a hundred refunds, or a hundred checkouts, is about 100 kB
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_ADDRESS: Final = re.compile(r"\Ahttps?://[0-9A-Za-z.:\[\]-]{1,253}/[!#-\[\]-~]{0,1800}\Z")
"""What every reader takes for the same address: browsers read `\\` as `/`, and pass over tabs."""
_REFUSALS: Final = frozenset({400, 401, 403, 404, 422})
Shape = TypeVar("Shape")
Said = TypeVar("Said")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer that arrived whole.

    Attributes:
        date_ms: the answer's Date header, Unix milliseconds; None when it had none.
    """

    status: int
    body: bytes | str
    date_ms: int | None = None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Line(Protocol):
    """The way to one provider. Attributes: `base`, its address without a slash at the end."""

    base: str

    async def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> Reply | NotSent | Unknown:
        """A Reply of any status, or what is known when none arrived whole; asked once."""
        ...

    async def close(self) -> None:
        """Let it go."""
        ...


class RestLine:
    """Satisfies `Line` by HTTP; what is asked is sent once."""

    def __init__(self, base: str, *, proxy: str | None = None) -> None:
        """Raises Rejected `provider_address_insecure`."""
        check_address(base)
        self.base = base.rstrip("/")
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            proxy=proxy,
        )

    async def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> Reply | NotSent | Unknown:
        if body is not None:
            headers = {"Content-Type": "application/json", **headers}
        try:
            async with self._http.request(
                method, self.base + path, data=body, headers=headers, allow_redirects=False
            ) as answer:
                octets = bytearray()
                async for chunk in answer.content.iter_any():
                    octets += chunk
                    if len(octets) > ANSWER_BYTES_MAX:
                        return Unknown(reason="answer_too_large")
                return Reply(status=answer.status, body=bytes(octets), date_ms=date_ms(answer.headers.get("Date")))
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError):
            # Raised only while connecting, or by a proxy that opened no tunnel: nothing was written to the provider.
            return NotSent(reason="connection_failed")
        except aiohttp.ClientPayloadError:
            return Unknown(reason="answer_cut_short")
        except aiohttp.ClientError:
            return Unknown(reason="connection_lost")

    async def close(self) -> None:
        await self._http.close()


async def in_time(asking: Awaitable[Said]) -> Said | Unknown:
    """One question with a bound of its own: one that hangs must not eat the customer's time."""
    try:
        async with asyncio.timeout(ASK_S_MAX):
            return await asking
    except TimeoutError:
        return Unknown(reason="deadline_passed")


def left_open(status: int) -> Unknown | None:
    """What a status that is no success leaves open; None: a typed error under it says why nothing was done."""
    if status == 429:
        return Unknown(reason="rate_limited")
    if status == 409:
        return Unknown(reason="key_in_use")
    if status >= 500:
        return Unknown(reason="provider_failed")
    return None if status in _REFUSALS else Unknown(reason="answer_unreadable")


def read(body: bytes | str, shape: type[Shape] | Any) -> Shape | None:
    """`body` as `shape`, or None when it is not exactly that."""
    try:
        answer: Shape = msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return answer


def date_ms(header: str | None) -> int | None:
    """A Date header as Unix milliseconds; None for none, or one that is no date."""
    if header is None:
        return None
    try:
        return int(email.utils.parsedate_to_datetime(header).timestamp()) * 1000
    except (TypeError, ValueError, OverflowError):
        return None


def time_ms(text: str) -> int | None:
    """Unix milliseconds of a time such as 2026-09-21T22:00:45Z; None for what is none, or has no zone."""
    try:
        instant = datetime.datetime.fromisoformat(text)
        return None if instant.tzinfo is None else int(instant.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def leads_to(address: str, *, domain: str, base: str) -> bool:
    """Whether customers may be sent to `address`: at `domain` or below it, or where the twin of a sandbox answers."""
    if not _ADDRESS.match(address):
        return False
    parts = urlsplit(address)
    is_there = parts.scheme == "https" and f".{parts.hostname or ''}".endswith(f".{domain}")
    return is_there or address.startswith(f"{base}/")


def check_address(address: str) -> None:
    """Raises Rejected `provider_address_insecure`."""
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Rejected("provider_address_insecure", "the provider's address must be https, or http on this machine")


def why(answer: Answer) -> str:
    """The stable word for an answer that settles nothing when it was only read."""
    match answer:
        case Unknown() | NotSent():
            return answer.reason
        case Refused() | Declined():
            return answer.code
        case Confirmed() | PartlyConfirmed() | AcceptedOffline():
            return "confirmed"

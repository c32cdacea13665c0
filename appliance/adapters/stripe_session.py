"""How a question travels to Stripe: the SDK, its HTTP session, one request at a time and whole listings.

Must never retry, never follow a redirect, and never let the SDK or aiohttp decide how long to wait.

Rules:
- The SDK takes 0.3 to 0.5 s to import, so it is imported when a session is opened, on a thread, never on the loop.
- `max_network_retries=0`: the SDK would ask twice more by itself.
- Time is the caller's (`asyncio.timeout`); cancellation passes through and leaves the outcome open.
- Telemetry is off: it would write an identity file into the home directory and send the platform's name.

Source: docs.stripe.com/api/errors, docs.stripe.com/api/pagination, docs.stripe.com/api/versioning.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import ssl
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Generic, Self

import aiohttp
from aiohttp.streams import EmptyStreamReader
from typing_extensions import override

from appliance.adapters.provider_http import CLOCK_DISAGREEMENT_MAX_MS, Reply, check_address, date_ms, read
from appliance.adapters.stripe_reply import Item, Page, Payment, Refunded
from appliance.config.secret import Secret
from appliance.model.errors import Rejected
from appliance.model.limits import MINUTE_MS
from appliance.ports.clock import Clock
from appliance.ports.provider import NotSent, Unknown

API_VERSION: Final = "2026-10-28.endive"
"""Pinned: the account's own default would change the meaning of answers without a release of ours."""
CONNECTIONS_MAX: Final = 32
PAGE_SIZE: Final = 100  # the largest Stripe gives
PAGES_MAX: Final = 100  # 10,000 payments: several days of a busy shop
ANSWER_BYTES_MAX: Final = 8 << 20  # a full page of payments is about 1 MB

_KEY: Final = re.compile(r"\A(?:sk|rk)_(live|test)_[0-9A-Za-z]+\Z")
_PAGES: Final[dict[type, Any]] = {Payment: Page[Payment], Refunded: Page[Refunded]}


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeSettings:
    """Where Stripe answers and who we are to it.

    Attributes:
        reader_wait_ms: how long a customer may take to show a card to a reader.
        proxy: through which HTTPS leaves; None: directly.
    """

    api_base: str
    api_key: Secret
    proxy: str | None = None
    reader_wait_ms: int = MINUTE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[Item]):
    """Everything a complete listing held, newest first; `as_of_ms` is Stripe's clock at its first page."""

    items: list[Item]
    as_of_ms: int


class StripeSession:
    """One account's connection pool. Attributes: `is_live`, whether the key moves real money."""

    def __init__(self, *, sdk: ModuleType, http: aiohttp.ClientSession, settings: StripeSettings, clock: Clock) -> None:
        self._sdk = sdk
        self._http = http
        self._clock = clock
        self.is_live = is_live_key(settings.api_key)
        # No time limit of aiohttp's or the SDK's own (80 s): the caller's deadline is the only one.
        client = sdk.AIOHTTPClient(timeout=aiohttp.ClientTimeout(total=None), session=http)
        self._client = sdk.StripeClient(
            settings.api_key.reveal_text(),
            stripe_version=API_VERSION,
            base_addresses={"api": settings.api_base.rstrip("/")},
            max_network_retries=0,
            http_client=client,
        )

    @classmethod
    async def open(cls, *, settings: StripeSettings, clock: Clock) -> Self:
        """Import the SDK on a thread and make the pool; nothing is asked yet.

        Raises:
            Rejected: the key is no secret key, or the address is neither HTTPS nor this machine.
        """
        is_live_key(settings.api_key)
        check_address(settings.api_base)
        sdk, context = await asyncio.to_thread(_load)
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=CONNECTIONS_MAX),
            middlewares=(_whole_answer,),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=settings.proxy,
        )
        return cls(sdk=sdk, http=http, settings=settings, clock=clock)

    async def ask(
        self, method: str, path: str, *, key: str | None = None, **parameters: Any
    ) -> Reply | NotSent | Unknown:
        """One request, once: a Reply of any status, or what is known when none arrived whole."""
        options = {} if key is None else {"idempotency_key": key}
        try:
            answer = await self._client.raw_request_async(method, path, **options, **parameters)
        except self._sdk.APIConnectionError as error:
            # aiohttp raises ClientConnectorError only while connecting: name lookup, TCP or TLS; the other is a proxy's
            # that opened no tunnel. Nothing was written to Stripe.
            if isinstance(error.__cause__, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
                return NotSent(reason="connection_failed")
            is_cut = isinstance(error.__cause__, aiohttp.ClientPayloadError)
            return Unknown(reason="answer_cut_short" if is_cut else "connection_lost")
        except self._sdk.StripeError as error:
            if error.http_status is None:
                return Unknown(reason="library_failed")
            return Reply(status=error.http_status, body=error.http_body or "")
        except (AttributeError, KeyError, TypeError, ValueError):
            # The SDK trips over error objects of an unexpected shape.
            return Unknown(reason="answer_unreadable")
        return Reply(status=answer.code, body=answer.body, date_ms=date_ms(answer.headers.get("Date")))

    async def list_all(self, path: str, kind: type[Item], **filters: Any) -> Listing[Item] | Unknown:
        """Every object under `path` that passes `filters`, or Unknown when the last page was not read.

        A window in time proves something only while both clocks agree, so a disagreement is Unknown too.
        """
        items: list[Item] = []
        as_of_ms: int | None = None
        for _ in range(PAGES_MAX):
            reply = await self.ask("get", path, limit=PAGE_SIZE, **filters)
            if not isinstance(reply, Reply):
                return Unknown(reason=reply.reason)
            if not reply.is_success:
                return Unknown(reason="listing_failed")
            page: Page[Item] | None = read(reply.body, _PAGES[kind])
            if page is None:
                return Unknown(reason="answer_unreadable")
            as_of_ms = reply.date_ms if as_of_ms is None else as_of_ms
            if as_of_ms is None or abs(as_of_ms - self._clock.now_ms()) > CLOCK_DISAGREEMENT_MAX_MS:
                return Unknown(reason="clock_disagrees")
            items += page.data
            if not page.has_more:
                return Listing(items=items, as_of_ms=as_of_ms)
            if not page.data:
                break
            filters["starting_after"] = page.data[-1].id
        return Unknown(reason="listing_incomplete")

    async def close(self) -> None:
        await self._http.close()


def _load() -> tuple[ModuleType, ssl.SSLContext]:
    """Import and warm everything that would otherwise block the loop at the first answer."""
    sdk: Any = importlib.import_module("stripe")
    sdk.enable_telemetry = False
    logging.getLogger("stripe").setLevel(logging.WARNING)  # below it, request and answer bodies are logged
    # The first error object pulls in further modules and a default HTTP client; make one here.
    payment = {"object": "payment_intent", "latest_charge": {"object": "charge"}, "last_payment_error": {}}
    sdk.CardError("", "", "", json_body={"error": {"payment_intent": payment}})
    return sdk, ssl.create_default_context(cafile=sdk.ca_bundle_path)


class _Whole(EmptyStreamReader):
    """A body that was read already, for the SDK to read."""

    __slots__ = ("_whole",)

    def __init__(self, whole: bytes) -> None:
        super().__init__()
        self._whole = whole

    @override
    async def read(self, n: int = -1) -> bytes:
        return self._whole


async def _whole_answer(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """An answer of at most `ANSWER_BYTES_MAX` bytes, unpacked, and no redirect.

    The API never redirects; following one would hand the request, and with 307 its body, to somebody else. The SDK
    would read whatever comes into memory.
    """
    response = await handler(request)
    try:
        if 300 <= response.status < 400:
            raise aiohttp.ClientConnectionError("the provider's address answered with a redirect")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                raise aiohttp.ClientPayloadError(f"expected an answer of at most {ANSWER_BYTES_MAX} bytes")
    except BaseException:  # a deadline, too: what is left of an answer must not become the next one's beginning
        response.close()
        raise
    response.content = _Whole(bytes(body))
    return response


def is_live_key(key: Secret) -> bool:
    """Whether `key` moves real money. Raises Rejected `provider_key_invalid`."""
    found = _KEY.match(key.reveal_text())
    if found is None:
        raise Rejected("provider_key_invalid", "the provider's key must begin with sk_ or rk_, then live_ or test_")
    return found[1] == "live"

"""Coinbase Business Checkouts in our own words: the customer pays USDC at an address that the till shows.

What an answer means is `coinbase_reply`'s, how it travels `coinbase_session`'s. Must never retry, never send what makes
a checkout or a refund without our own key, and never raise for what a network or Coinbase did.

A checkout is paid by the customer, not by us: from the moment that anybody knows its address, money may come. So the
intent is durable before the checkout is made, and the checkout's name before its address is shown (`Authorise.show`).
Whoever ends the waiting withdraws the checkout first and reads it then: it was withdrawn unpaid, or it was paid.

* A checkout takes one payment and ends then. It also ends by itself at `expiresAt`, however long the box is away.
* Checkouts can be listed, with our names in `metadata`; a refund is found on its checkout by our names in `reason`.

Source: docs.cdp.coinbase.com/api-reference/business-api/rest-api/checkouts (introduction, create-checkout,
get-checkout, list-checkouts, deactivate-checkout, refund-checkout).
"""

from __future__ import annotations

import asyncio
import datetime
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from typing_extensions import override

from appliance.adapters.coinbase_reply import (
    ASKED,
    OURS,
    WITHDRAWN,
    Checkout,
    Expected,
    Refunded,
    failure,
    is_ours,
    refunded,
    told,
    value_for_coinbase,
)
from appliance.adapters.coinbase_session import CoinbaseSession
from appliance.adapters.provider_http import CLOCK_DISAGREEMENT_MAX_MS, Reply, in_time, leads_to, read, time_ms, why
from appliance.adapters.waiting import CustomerProvider, End, Waiting
from appliance.model.ids import ProviderReference
from appliance.model.limits import MINUTE_MS, PROVIDER_DEADLINE_MS
from appliance.ports.clock import Clock
from appliance.ports.provider import (
    Absent,
    Answer,
    Authorise,
    Confirmed,
    Declined,
    Found,
    NotSent,
    Offered,
    Operation,
    Reference,
    Refund,
    Refused,
    Unknown,
)

_CHECKOUTS: Final = "/api/v1/checkouts"
_REFERENCE: Final = re.compile(r"\A[0-9a-f]{24}\Z")  # it becomes part of a path
_NAME_MAX: Final = 100  # create-checkout: `metadata` takes values of 100 characters
_PAGE: Final = 100
_PAGES_MAX: Final = 200
_SHOW_MS_MAX: Final = 60_000
_TIME_S_MAX: Final = 253_402_300_799
_LATE_MS: Final = MINUTE_MS
"""How much longer than we wait a checkout can be paid, should nobody be here to withdraw it."""
_HOLDS_NOTHING: Final = Refused(code="holds_nothing", detail="money at Coinbase is taken at once or not at all")
_ENDED: Final = {
    End.GIVEN_UP: "The till stopped waiting.",
    End.TIME_OVER: "The customer did not pay in time.",
}


class _Page(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    checkouts: Annotated[tuple[Checkout, ...], Meta(max_length=_PAGE)]
    next_page_token: Annotated[str, Meta(max_length=2_000)] | None = None


class _RefundAnswer(msgspec.Struct, frozen=True, kw_only=True):
    refund: Refunded


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    checkout: Checkout
    date_ms: int


class CoinbaseProvider(CustomerProvider):
    """One Coinbase Business account."""

    def __init__(self, *, session: CoinbaseSession, clock: Clock, jitter: random.Random, customer_wait_ms: int) -> None:
        super().__init__(clock=clock, jitter=jitter, customer_wait_ms=customer_wait_ms)
        self._session = session

    @override
    def patience_ms(self, operation: Operation) -> int:
        if isinstance(operation, Authorise):
            return self._wait_ms + 2 * PROVIDER_DEADLINE_MS + _SHOW_MS_MAX
        return PROVIDER_DEADLINE_MS

    @override
    async def authorise(self, operation: Authorise) -> Answer:
        if operation.is_captured_later:
            return _HOLDS_NOTHING
        waiting = Waiting()
        with self._customers.await_one(operation.provider_key, waiting):
            try:
                async with asyncio.timeout(PROVIDER_DEADLINE_MS / 1_000):
                    made = await self._make(operation)
            except TimeoutError:
                return Unknown(reason="deadline_passed")
            if not isinstance(made, Checkout):
                return made
            waiting.reference = made.reference
            if operation.show is not None and not waiting.is_given_up:
                await operation.show(Offered(provider_reference=made.reference, show=made.url))
            return await self._await_paid(operation, made.reference, waiting)

    @override
    async def refund(self, operation: Refund) -> Answer:
        value = value_for_coinbase(operation.amount)
        if isinstance(value, Refused):
            return value
        found = await self._checkout(operation.of)
        if not isinstance(found, _Read):
            # Only reading went wrong: the refund itself was not sent.
            return NotSent(reason=found.reason) if isinstance(found, Unknown) else found
        match found.checkout.status:
            case "REFUNDED" if _refund_of(found.checkout, operation) is None:
                return Refused(code="charge_already_refunded", detail="all of it was given back")
            case "COMPLETED" | "PARTIALLY_REFUNDED" | "REFUNDED":
                pass
            case _:
                return Refused(code="payment_not_captured", detail="the checkout took no money")
        body = {"amount": value, "currency": operation.amount.currency, "reason": _reason(operation.reference)}
        path = f"{_CHECKOUTS}/{operation.of}/refund"
        reply = await self._session.ask("POST", path, key=operation.provider_key, body=body)
        if not isinstance(reply, Reply):
            return reply
        if not reply.is_success:
            return failure(reply)
        answer: _RefundAnswer | None = read(reply.body, _RefundAnswer)
        if answer is None:
            return Unknown(reason="answer_unreadable")
        return refunded(answer.refund, operation.amount, body["reason"])

    @override
    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> Found | Absent | Unknown:
        match operation:
            case Authorise() if known is not None:
                return await self._find_known(operation, known)
            case Authorise():
                return await self._find_listed(operation, since_ms)
            case Refund():
                return await self._find_refund(operation, known)
            case _:
                return Unknown(reason=_HOLDS_NOTHING.code)

    @override
    async def close(self) -> None:
        await self._session.close()

    async def _make(self, operation: Authorise) -> Checkout | Answer:
        """The checkout, of which nobody knows the address yet."""
        value, expected = value_for_coinbase(operation.amount), _expected(operation)
        if isinstance(value, Refused):
            return value
        if max(map(len, expected.names)) > _NAME_MAX:
            return Refused(code="reference_too_long", detail="the log's name is too long for Coinbase's metadata")
        body: dict[str, Any] = {
            "amount": value,
            "currency": operation.amount.currency,
            "description": f"Sale {operation.reference.payment_key}",
            "expiresAt": _rfc3339(self._session.now_ms() + self._wait_ms + _LATE_MS),
            "metadata": dict(zip(OURS, expected.names, strict=True)),
        }
        reply = await self._session.ask("POST", _CHECKOUTS, key=operation.provider_key, body=body)
        if not isinstance(reply, Reply):
            return reply
        if not reply.is_success:
            return failure(reply)
        checkout: Checkout | None = read(reply.body, Checkout)
        if checkout is None:
            return Unknown(reason="answer_unreadable")
        said = told(checkout, expected)
        if isinstance(said, Unknown) and said.reason != ASKED:
            return Unknown(reason=said.reason)  # its name is not one to be asked for: it may be another sale's
        if not leads_to(checkout.url, domain="coinbase.com", base=self._session.base):
            return Refused(code="approval_missing", detail="the checkout has no address of Coinbase to pay at")
        return checkout

    async def _await_paid(self, operation: Authorise, of: ProviderReference, waiting: Waiting) -> Answer:
        async def look() -> Confirmed | Declined | None:
            said = await self._told(operation, of)
            return None if isinstance(said, Unknown) else said

        end: Confirmed | Declined | End = await self._until_told(look, waiting)
        return await self._withdraw(operation, of, end, _ENDED[end]) if isinstance(end, End) else end

    async def _withdraw(
        self, operation: Authorise, of: ProviderReference, code: str, message: str
    ) -> Confirmed | Declined | Unknown:
        """Declined only once nobody can pay it any more: what it says afterwards counts, not what this is answered."""
        await in_time(self._session.ask("POST", f"{_CHECKOUTS}/{of}/deactivate"))
        said = await self._told(operation, of)
        if isinstance(said, Declined) and said.code == WITHDRAWN:
            return Declined(code=code, message=message, provider_reference=of)
        if isinstance(said, Unknown) and said.reason == ASKED:
            return Unknown(reason="withdrawal_unclear", provider_reference=of)
        return said

    async def _told(self, operation: Authorise, of: ProviderReference) -> Confirmed | Declined | Unknown:
        found = await self._checkout(of)
        if not isinstance(found, _Read):
            return Unknown(reason=why(found), provider_reference=of)
        return told(found.checkout, _expected(operation))

    async def _find_known(self, operation: Authorise, known: ProviderReference) -> Found | Unknown:
        found = await self._checkout(known)
        if not isinstance(found, _Read):
            # Also 404: this is another account or a lie, not absence.
            return Unknown(reason=why(found), provider_reference=known)
        made_ms = time_ms(found.checkout.created_at)
        # Both times are Coinbase's. As long as the customer may still be at it, he is let.
        is_over = made_ms is not None and found.date_ms > made_ms + self._wait_ms
        code = End.TIME_OVER if is_over else None
        return await self._verdict(operation, found.checkout, code, _ENDED[End.TIME_OVER])

    async def _find_listed(self, operation: Authorise, since_ms: int) -> Found | Absent | Unknown:
        listed = await self._list(since_ms, _expected(operation))
        if isinstance(listed, Unknown):
            return listed
        ours, as_of_ms = listed
        if len(ours) > 1:
            return Unknown(reason="found_more_than_once")
        if not ours:
            return Absent(as_of_ms=as_of_ms)
        # Its name is not in the log, so nobody was shown its address.
        return await self._verdict(operation, ours[0], "offer_not_shown", "The customer was not asked.")

    async def _verdict(
        self, operation: Authorise, checkout: Checkout, ends_as: str | None, message: str
    ) -> Found | Unknown:
        """What a checkout came to; one that can still be paid, and must not be, is withdrawn first."""
        said = told(checkout, _expected(operation))
        is_left = isinstance(said, Unknown) and said.reason == ASKED and operation.provider_key not in self._customers
        if is_left and ends_as is not None:
            said = await self._withdraw(operation, checkout.reference, ends_as, message)
        return said if isinstance(said, Unknown) else Found(answer=said)

    async def _find_refund(self, operation: Refund, known: ProviderReference | None) -> Found | Absent | Unknown:
        found = await self._checkout(operation.of)
        if not isinstance(found, _Read):
            return Unknown(reason=why(found), provider_reference=known)
        refund = _refund_of(found.checkout, operation, known)
        if isinstance(refund, Unknown):
            return refund
        if refund is None and known is None:
            return Absent(as_of_ms=found.date_ms)
        if refund is None:
            return Unknown(reason="reference_differs", provider_reference=known)
        said = refunded(refund, operation.amount, _reason(operation.reference))
        return said if isinstance(said, Unknown) else Found(answer=said)

    async def _list(self, since_ms: int, expected: Expected) -> tuple[Sequence[Checkout], int] | Unknown:
        """Our checkouts of all that were made since then, and Coinbase's clock when the reading began."""
        query = {"pageSize": str(_PAGE), "startTime": _rfc3339(since_ms)}
        found, as_of_ms = list[Checkout](), None
        for _ in range(_PAGES_MAX):
            reply = await self._session.ask("GET", _CHECKOUTS, query=query)
            if not isinstance(reply, Reply):
                return Unknown(reason=reply.reason)
            page: _Page | None = read(reply.body, _Page) if reply.is_success else None
            if page is None:
                return Unknown(reason="listing_failed" if reply.is_success else why(failure(reply)))
            as_of_ms = reply.date_ms if as_of_ms is None else as_of_ms
            if as_of_ms is None or abs(as_of_ms - self._clock.now_ms()) > CLOCK_DISAGREEMENT_MAX_MS:
                return Unknown(reason="clock_disagrees")
            found += [each for each in page.checkouts if is_ours(each, expected)]
            if not page.next_page_token:
                return found, as_of_ms
            query["pageToken"] = page.next_page_token
        return Unknown(reason="listing_incomplete")

    async def _checkout(self, of: ProviderReference) -> _Read | NotSent | Refused | Unknown:
        """The checkout `of` as it is now, whatever it says."""
        if not _REFERENCE.match(of):
            return Refused(code="reference_malformed", detail="the payment's name is not one that Coinbase gives")
        reply = await in_time(self._session.ask("GET", f"{_CHECKOUTS}/{of}"))
        if not isinstance(reply, Reply):
            return reply
        if not reply.is_success:
            return failure(reply)
        checkout: Checkout | None = read(reply.body, Checkout)
        if checkout is None or checkout.id != of or reply.date_ms is None:
            return Unknown(reason="answer_unreadable")
        return _Read(checkout=checkout, date_ms=reply.date_ms)


def _refund_of(
    checkout: Checkout, operation: Refund, known: ProviderReference | None = None
) -> Refunded | Unknown | None:
    """Our refund on its checkout, by Coinbase's name or by ours."""
    reason = _reason(operation.reference)
    ours = [each for each in checkout.refunds or () if (each.reason == reason if known is None else each.id == known)]
    if len(ours) > 1:
        return Unknown(reason="found_more_than_once")
    return ours[0] if ours else None


def _expected(operation: Authorise) -> Expected:
    reference = operation.reference
    names = (reference.log_origin, str(reference.payment_key), str(reference.operation_id))
    return Expected(money=operation.amount, names=names)


def _reason(reference: Reference) -> str:
    return f"{reference.log_origin} {reference.operation_id}"


def _rfc3339(instant_ms: int) -> str:
    # Coinbase's clock may say anything, and a date ends with the year 9999.
    instant = datetime.datetime.fromtimestamp(min(max(instant_ms // 1000, 0), _TIME_S_MAX), datetime.UTC)
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")

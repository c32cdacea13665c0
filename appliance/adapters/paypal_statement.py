"""What PayPal says it moved: the transaction search of one account.

Must never guess: a line that is not exactly understood makes the whole page unread.

* A transaction is listed up to three hours late; `last_refreshed_datetime` says up to when the list is whole.
* Only what changed the balance is asked for. Of it `P` waits still and `D` was denied: neither moved money. `V` did,
  and what took it back is a line of its own.
* A capture that was held for review bears the time at which it began, so a window is read from `HELD_MS` before it.
* A capture is listed under its own name, and our records know its order: `custom_field` has the name that we gave that.
* More than 10,000 transactions are refused (`RESULTSET_TOO_LARGE`), and then half of the time is asked for. Pages are
  numbers: what is listed late pushes others to a later page, so one may be seen twice and none is passed over.
* What was not paid out lies on the account and is the shop's at once: there is no later day on which it can be had.

Source: developer.paypal.com/api/transaction-search/v1/search-get, developer.paypal.com/docs/transaction-search,
developer.paypal.com/docs/transaction-search/transaction-event-codes.
"""

from __future__ import annotations

import asyncio
import datetime
import re
from dataclasses import dataclass, replace
from typing import Annotated, Final, Self
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from appliance.adapters.paypal_money import minor_from_paypal
from appliance.adapters.paypal_session import PayPalSession, PayPalSettings
from appliance.adapters.provider_http import CLOCK_DISAGREEMENT_MAX_MS, Reply, read, time_ms, why
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import OperationId, ProviderReference
from appliance.model.limits import DAY_MS, HOUR_MS
from appliance.ports.clock import Clock
from appliance.ports.statement import LINES_PER_PAGE_MAX, Line, LineId, LineKind, Page, PageMark, Window

SETTLE_MS: Final = 3 * HOUR_MS
"""search-get: "It takes a maximum of three hours for executed transactions to appear"."""
HELD_MS: Final = 10 * DAY_MS
"""A review takes up to three days, an eCheck six working days. With a day it stays below 31, the most that is given."""
_PATH: Final = "/v1/reporting/transactions"
_ASK_S_MAX: Final = 30.0
_WINDOW_MS_MIN: Final = 1_000
_TIME_MS_MAX: Final = 2**47  # until the year 6429: each has a shop day
_MOVED: Final = frozenset("SVF")  # F: it was given back in part
_NOT_MOVED: Final = frozenset("PD")
_OURS: Final = re.compile(r"\A([^/\s]+/[^/\s]+/[0-9]+) ([^/\s]+/[0-9]+)\Z")
_REFUND: Final = "T1107"
_DISPUTES: Final = frozenset({"T1106", "T1110", "T1111", "T1201", "T1202", "T1205", "T1207", "T1208"})
"""Reversed or held by PayPal for a dispute, charged back by a bank, and each of them given back."""

_Time = Annotated[str, Meta(max_length=64)]
_Text = Annotated[str, Meta(max_length=255)]


class _Amount(msgspec.Struct, frozen=True, kw_only=True):
    currency_code: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]
    value: Annotated[str, Meta(max_length=32)]


class _Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """The fields we rely on of a `transaction_info`."""

    transaction_id: Annotated[str, Meta(pattern=r"\A[0-9A-Za-z]{1,24}\Z")]
    transaction_event_code: Annotated[str, Meta(pattern=r"\AT[0-9]{4}\Z")]
    transaction_initiation_date: _Time
    transaction_status: Annotated[str, Meta(pattern=r"\A[A-Z]\Z")]
    transaction_amount: _Amount
    fee_amount: _Amount | None = None
    paypal_reference_id: Annotated[str, Meta(max_length=24)] | None = None
    custom_field: _Text = ""


class _Detail(msgspec.Struct, frozen=True, kw_only=True):
    transaction_info: _Transaction


class _Listed(msgspec.Struct, frozen=True, kw_only=True):
    transaction_details: Annotated[list[_Detail], Meta(max_length=LINES_PER_PAGE_MAX)] = []
    total_pages: Annotated[int, Meta(ge=0, le=2**31)]
    last_refreshed_datetime: _Time


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one request asks for: a page of the time from `begins_ms`, before `ends_ms`."""

    begins_ms: int
    ends_ms: int
    page: int = 1

    @classmethod
    def of(cls, mark: PageMark) -> Self:
        begins_ms, ends_ms, page = (int(each) for each in mark.split("-"))
        return cls(begins_ms=begins_ms, ends_ms=ends_ms, page=page)

    @property
    def mark(self) -> PageMark:
        return PageMark(f"{self.begins_ms}-{self.ends_ms}-{self.page}")


class PayPalStatement:
    """Satisfies `ports/statement.py` on one PayPal account."""

    def __init__(self, *, session: PayPalSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    @classmethod
    async def open(cls, *, settings: PayPalSettings, clock: Clock) -> Self:
        """Make ready to ask; nothing is asked yet. Raises Rejected for a wrong client id or address."""
        return cls(session=PayPalSession(settings=settings, clock=clock), clock=clock)

    @property
    def settle_ms(self) -> int:
        return SETTLE_MS

    async def page(self, window: Window, after: PageMark | None) -> Page:
        whole = _Part(begins_ms=max(0, window.begins_ms - HELD_MS), ends_ms=window.ends_ms)
        part = whole if after is None else _Part.of(after)
        listed = await self._ask(part)
        while listed is None:
            part = _half(part)
            listed = await self._ask(part)
        self._check_refreshed(window, listed)
        infos = [each.transaction_info for each in listed.transaction_details]
        return Page(
            lines=tuple(_line(info) for info in infos if _has_moved(info)),
            following=_following(part, whole, listed.total_pages),
        )

    async def close(self) -> None:
        await self._session.close()

    async def _ask(self, part: _Part) -> _Listed | None:
        """A page; None where the time has too many transactions."""
        query = {
            "start_date": _written(part.begins_ms),
            # Times there are whole seconds: whether the end is one of them does not matter so.
            "end_date": _written(part.ends_ms - 1),
            "fields": "transaction_info",
            "page_size": LINES_PER_PAGE_MAX,
            "page": part.page,
        }
        try:
            async with asyncio.timeout(_ASK_S_MAX):
                reply = await self._session.ask("GET", f"{_PATH}?{urlencode(query)}")
        except TimeoutError:
            raise _unread("deadline_passed") from None
        if not isinstance(reply, Reply):
            raise _unread(why(reply))
        if not reply.is_success:
            error: _Error | None = read(reply.body, _Error)
            if error is not None and error.name == "RESULTSET_TOO_LARGE":
                return None
            if reply.status == 403:
                raise _unread("not permitted: switch on Transaction Search for the app, which may take nine hours")
            raise _unread(f"status {reply.status}")
        if reply.date_ms is None or abs(reply.date_ms - self._clock.now_ms()) > CLOCK_DISAGREEMENT_MAX_MS:
            raise _unread("clock_disagrees")
        listed: _Listed | None = read(reply.body, _Listed)
        if listed is None:
            raise _unread("answer_unreadable")
        return listed

    def _check_refreshed(self, window: Window, listed: _Listed) -> None:
        """A window whose time to settle is over must be whole; one that runs still is shown as far as it is known."""
        if self._clock.now_ms() >= window.ends_ms + SETTLE_MS and _read_ms(listed.last_refreshed_datetime) < (
            window.ends_ms
        ):
            raise _unread("not_refreshed")


def _half(part: _Part) -> _Part:
    middle_ms = (part.begins_ms + part.ends_ms) // 2
    if middle_ms - part.begins_ms < _WINDOW_MS_MIN:
        raise _unread("too many transactions in a second")
    # The second half begins at a whole second: nothing lies between the two.
    return replace(part, ends_ms=middle_ms - middle_ms % 1_000, page=1)


def _following(part: _Part, whole: _Part, pages: int) -> PageMark | None:
    if part.page < pages:
        return replace(part, page=part.page + 1).mark
    if part.ends_ms < whole.ends_ms:
        return _Part(begins_ms=part.ends_ms, ends_ms=whole.ends_ms).mark
    return None


def _has_moved(info: _Transaction) -> bool:
    if info.transaction_status in _MOVED:
        return True
    if info.transaction_status in _NOT_MOVED:
        return False
    raise _unread("status_unknown")


def _line(info: _Transaction) -> Line:
    amount, fee = info.transaction_amount, info.fee_amount
    if fee is not None and fee.currency_code != amount.currency_code:
        raise _unread("fee_in_another_currency")
    try:
        gross = minor_from_paypal(amount.value, amount.currency_code)
        kept = 0 if fee is None else -minor_from_paypal(fee.value, amount.currency_code)
    except Rejected as cause:
        raise _unread(cause.code) from cause
    kind, created_ms = _kind(info.transaction_event_code, gross), _read_ms(info.transaction_initiation_date)
    log_origin, operation = _names(info.custom_field)
    return Line(
        # One name may stand at two lines, of different kinds (search-get, `transaction_id`).
        line_id=LineId(f"{info.transaction_id}/{info.transaction_event_code}"),
        kind=kind,
        reference=_reference(kind, info),
        log_origin=log_origin,
        operation_id=operation,
        gross_minor=gross,
        fee_minor=kept,
        net_minor=gross - kept,
        currency=amount.currency_code,
        created_ms=created_ms,
        available_ms=created_ms,
    )


def _kind(code: str, gross: int) -> LineKind:
    if code.startswith("T00") and gross > 0:  # below 0 the shop paid somebody
        return LineKind.CHARGE
    if code == _REFUND:
        return LineKind.REFUND
    if code in _DISPUTES:
        return LineKind.DISPUTE
    return LineKind.PAYOUT if code.startswith("T04") else LineKind.OTHER


def _reference(kind: LineKind, info: _Transaction) -> ProviderReference | None:
    if kind is LineKind.DISPUTE:
        return None if info.paypal_reference_id is None else ProviderReference(info.paypal_reference_id)
    return ProviderReference(info.transaction_id) if kind in (LineKind.CHARGE, LineKind.REFUND) else None


def _names(custom: str) -> tuple[str | None, OperationId | None]:
    """Log and operation that asked for it, as `PayPalProvider` names an order and a refund; other text is nobody's."""
    ours = _OURS.match(custom)
    return (None, None) if ours is None else (ours[1], OperationId(ours[2]))


def _read_ms(text: str) -> int:
    found = time_ms(text)
    if found is None or not 0 <= found <= _TIME_MS_MAX:
        raise _unread("time_unreadable")
    return found


def _written(at_ms: int) -> str:
    at = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def _unread(reason: str) -> Unavailable:
    return Unavailable("statement_unread", f"PayPal's statement could not be read: {reason}")

"""What Stripe says it moved: its balance transactions, with the charge, refund or dispute that each is about.

Must never guess: a line that is not exactly understood makes the whole page unread. Amounts come in the currency in
which the account is settled.

* `expand` brings the source with the line, so a page costs one request; a charge carries the metadata that its payment
  had when it was charged (docs.stripe.com/metadata, "copied").
* Where the account is settled in another currency than the card was charged in, `exchange_rate` is given, and the
  source has the amount as it was charged.
* A line does not say with which payout it leaves; `available_on` is when it may.

Source: docs.stripe.com/api/balance_transactions/list, docs.stripe.com/api/balance_transactions/object (exchange_rate),
docs.stripe.com/reports/balance-transaction-types, docs.stripe.com/reports/reporting-categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from msgspec import Meta

from appliance.adapters.provider_http import CLOCK_DISAGREEMENT_MAX_MS, Reply, read
from appliance.adapters.stripe_money import amount_from_stripe
from appliance.adapters.stripe_session import StripeSession, StripeSettings
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import OperationId, ProviderReference
from appliance.model.limits import MINUTE_MS
from appliance.model.money import Money
from appliance.ports.clock import Clock
from appliance.ports.statement import LINES_PER_PAGE_MAX, Line, LineId, LineKind, Page, PageMark, Window

SETTLE_MS: Final = 10 * MINUTE_MS
"""A balance transaction is made with its charge; this is for the clocks and for an answer that is on its way."""
_PATH: Final = "/v1/balance_transactions"
_CHARGES: Final = frozenset({"charge", "payment"})
_REFUNDS: Final = frozenset({"refund", "payment_refund"})
_REFUNDS_FAILED: Final = frozenset({"refund_failure", "payment_failure_refund"})
_ABOUT_CARDS: Final = frozenset({LineKind.CHARGE, LineKind.REFUND, LineKind.REFUND_FAILED})
_PAYOUTS: Final = frozenset({"payout", "payout_cancel", "payout_failure"})
_DISPUTES: Final = frozenset({"dispute", "dispute_reversal"})


_NAME_CHARACTERS_MAX: Final = 200
"""More than names of ours ever have; others of the account may write 500 characters beside a charge."""
_Name = Annotated[str, Meta(max_length=120)]
_Amount = Annotated[int, Meta(ge=-(2**53), le=2**53)]
_Currency = Annotated[str, Meta(pattern=r"\A[a-z]{3}\Z")]
_Seconds = Annotated[int, Meta(ge=0, le=2**37)]  # until the year 6325: each has a shop day


class _Source(msgspec.Struct, frozen=True, kw_only=True):
    """The fields we rely on of a charge, a refund or a dispute."""

    id: _Name
    object: str
    metadata: dict[str, str] = {}
    payment_intent: _Name | None = None
    amount: _Amount | None = None
    amount_captured: _Amount | None = None
    currency: _Currency | None = None


class _Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """The fields we rely on of a balance transaction."""

    id: Annotated[str, Meta(pattern=r"\Atxn_[0-9A-Za-z_]{1,120}\Z")]
    type: str
    reporting_category: str
    amount: _Amount
    fee: _Amount
    net: _Amount
    currency: _Currency
    exchange_rate: float | None = None
    created: _Seconds
    available_on: _Seconds
    source: _Source | None


class _Listed(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"]
    data: Annotated[list[_Transaction], Meta(max_length=LINES_PER_PAGE_MAX)]
    has_more: bool


class StripeStatement:
    """Satisfies `ports/statement.py` on one Stripe account."""

    def __init__(self, *, session: StripeSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    @classmethod
    async def open(cls, *, settings: StripeSettings, clock: Clock) -> Self:
        """Make ready to ask; nothing is asked yet. Raises Rejected for a wrong key or address."""
        return cls(session=await StripeSession.open(settings=settings, clock=clock), clock=clock)

    @property
    def settle_ms(self) -> int:
        return SETTLE_MS

    async def page(self, window: Window, after: PageMark | None) -> Page:
        # Whole seconds: a window that begins inside one reads it from its start, one that ends inside one to its end.
        created = {"gte": window.begins_ms // 1000, "lt": -(-window.ends_ms // 1000)}
        more: dict[str, Any] = {} if after is None else {"starting_after": after}
        reply = await self._session.ask(
            "get", _PATH, limit=LINES_PER_PAGE_MAX, created=created, expand=["data.source"], **more
        )
        if not isinstance(reply, Reply):
            raise _unread(reply.reason)
        if not reply.is_success:
            raise _unread(f"status {reply.status}")
        listed: _Listed | None = read(reply.body, _Listed)
        if listed is None or (listed.has_more and not listed.data):
            raise _unread("answer_unreadable")
        if reply.date_ms is None or abs(reply.date_ms - self._clock.now_ms()) > CLOCK_DISAGREEMENT_MAX_MS:
            raise _unread("clock_disagrees")
        return Page(
            lines=tuple(_line(each) for each in listed.data),
            following=PageMark(listed.data[-1].id) if listed.has_more else None,
        )

    async def close(self) -> None:
        await self._session.close()


def _line(transaction: _Transaction) -> Line:
    kind = _kind(transaction)
    source = transaction.source
    log_origin, operation = _names({} if source is None else source.metadata)
    currency = transaction.currency.upper()
    try:
        gross, fee, net = (
            amount_from_stripe(each, currency) for each in (transaction.amount, transaction.fee, transaction.net)
        )
        converted_from = _converted_from(transaction, kind)
    except Rejected as cause:
        raise _unread(cause.code) from cause
    return Line(
        line_id=LineId(transaction.id),
        kind=kind,
        reference=_reference(kind, source),
        log_origin=log_origin,
        operation_id=operation,
        gross_minor=gross,
        fee_minor=fee,
        net_minor=net,
        currency=currency,
        created_ms=transaction.created * 1000,
        available_ms=transaction.available_on * 1000,
        converted_from=converted_from,
    )


def _converted_from(transaction: _Transaction, kind: LineKind) -> Money | None:
    """What the card was charged or given back, where Stripe settled it in another currency (`exchange_rate`)."""
    source = transaction.source
    if transaction.exchange_rate is None or source is None or kind not in _ABOUT_CARDS:
        return None
    asked = source.amount if source.amount_captured is None else source.amount_captured
    if asked is None or source.currency is None:
        return None
    currency = source.currency.upper()
    amount = amount_from_stripe(asked, currency)
    return Money(amount if transaction.amount > 0 else -amount, currency)


def _names(metadata: Mapping[str, str]) -> tuple[str | None, OperationId | None]:
    """Log and operation that asked for it. Names too long to be ours are nobody's: a day's entry must hold them."""
    log_origin, operation = metadata.get("tillstone_log"), metadata.get("tillstone_operation")
    if max(len(log_origin or ""), len(operation or "")) > _NAME_CHARACTERS_MAX:
        return None, None
    return log_origin, None if operation is None else OperationId(operation)


def _kind(transaction: _Transaction) -> LineKind:
    if transaction.type in _CHARGES:
        return LineKind.CHARGE
    if transaction.type in _REFUNDS:
        return LineKind.REFUND
    if transaction.type in _REFUNDS_FAILED:
        return LineKind.REFUND_FAILED
    if transaction.type in _PAYOUTS:
        return LineKind.PAYOUT
    # Disputes come as adjustments; only the reporting category tells them from others.
    return LineKind.DISPUTE if transaction.reporting_category in _DISPUTES else LineKind.OTHER


def _reference(kind: LineKind, source: _Source | None) -> ProviderReference | None:
    """What our own records call it: a payment by its PaymentIntent, a refund by itself."""
    if source is None or kind in (LineKind.PAYOUT, LineKind.OTHER):
        return None
    if kind in (LineKind.REFUND, LineKind.REFUND_FAILED) and source.object == "refund":
        return ProviderReference(source.id)
    return ProviderReference(source.payment_intent or source.id)


def _unread(reason: str) -> Unavailable:
    return Unavailable("statement_unread", f"the card provider's statement could not be read: {reason}")

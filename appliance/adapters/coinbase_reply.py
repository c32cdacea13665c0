"""What an answer of Coinbase means; pure, and the only reader of Coinbase's JSON.

Must never call anything failed that may have happened: whatever is not exactly understood is `Unknown`.

Rules:
- Only a status that says "ended, unpaid" is a decline, and only where nothing else in the answer speaks of money.
- A typed error under 400, 401, 403, 404 or 422 did nothing. 409, 429, 5xx and untyped answers are Unknown.
- Paid is what is COMPLETED with our amount in our currency, and with as much settled as Coinbase itself asked for.
  A customer who paid too much, too little or otherwise is being checked: his money is there.

Source: docs.cdp.coinbase.com/api-reference/business-api/rest-api/checkouts (introduction, create-checkout,
refund-checkout), docs.cdp.coinbase.com/coinbase-business/checkout-apis/migrate-from-commerce/api-schema-mapping
(what each status means), docs.cdp.coinbase.com/api-reference/v2/idempotency and .../errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from appliance.adapters.decimal_value import is_value_of
from appliance.adapters.provider_http import Reply, left_open, read, time_ms
from appliance.model.ids import ProviderReference
from appliance.model.limits import TEXT_CHARACTERS_MAX
from appliance.model.money import Money, exponent
from appliance.ports.provider import Confirmed, Declined, Refused, Unknown

CURRENCIES: Final = frozenset({"EUR", "GBP", "SGD", "USD"})
"""What a checkout may be asked in, beside USDC; each has two digits."""
OURS: Final = ("tillstone_log", "tillstone_payment", "tillstone_operation")
"""What we write beside a checkout: log, payment, operation."""
ASKED: Final = "customer_asked"
WITHDRAWN: Final = "offer_voided"
_Id = Annotated[str, Meta(pattern=r"\A[0-9a-f]{24}\Z")]
_Name = Annotated[str, Meta(max_length=120)]
_ISSUE: Final = re.compile(r"\A[a-z][a-z0-9_]{0,63}\Z")
_SETTLED: Final = re.compile(r"\A[0-9]{1,10}(?:\.[0-9]{1,6})? [A-Z]{3,10}\Z")
_AMOUNT: Final = re.compile(r"\A[0-9]{1,18}(?:\.[0-9]{1,18})?\Z")
"""An amount of any money; Decimal would take `sNaN`, with which no comparison ends well."""
_UNPAID: Final = {
    "DEACTIVATED": (WITHDRAWN, "The checkout was withdrawn, and nobody paid it."),
    "EXPIRED": ("customer_timeout", "The customer did not pay in time."),
    "FAILED": ("payment_failed", "The customer's payment failed at Coinbase."),
}
"""What a checkout ended as that took no money, in our words."""
_CODES: Final = {"unauthorized": "credentials_refused", "forbidden": "permission_refused"}


class Settlement(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What reached the shop's account, before the fee."""

    total_amount: str
    currency: str


class Refunded(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The fields we rely on of a refund. Attributes: `reason`, in which our names are."""

    id: Annotated[str, Meta(pattern=r"\A[0-9A-Za-z_-]{1,64}\Z")]
    status: str
    amount: str
    created_at: str
    currency: str | None = None
    reason: str | None = None
    fiat_amount: str | None = None
    fiat_currency: str | None = None


class Checkout(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The fields we rely on of a checkout; others are ignored.

    Attributes:
        fiat_amount, fiat_currency: what was asked, where `amount` is what that is in USDC.
        transaction_hash: there is a payment on the chain.
    """

    id: _Id
    status: str
    amount: str
    currency: str
    created_at: str
    url: str = ""
    metadata: dict[str, str] | None = None
    settlement: Settlement | None = None
    fiat_amount: str | None = None
    fiat_currency: str | None = None
    transaction_hash: str | None = None
    refunds: tuple[Refunded, ...] | None = None

    @property
    def reference(self) -> ProviderReference:
        return ProviderReference(self.id)


class _Error(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    error_type: _Name
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a truthful answer must carry. Attributes: `names`, as `OURS`."""

    money: Money
    names: tuple[str, str, str]


def is_ours(checkout: Checkout, expected: Expected) -> bool:
    """Whether this operation made it."""
    metadata = checkout.metadata or {}
    return tuple(metadata.get(name) for name in OURS) == expected.names


def told(checkout: Checkout, expected: Expected) -> Confirmed | Declined | Unknown:
    """What a checkout says of the customer's money."""
    of = checkout.reference
    if not is_ours(checkout, expected):
        return Unknown(reason="reference_differs", provider_reference=of)
    if not _is_money(checkout, expected.money):
        return Unknown(reason="amount_differs", provider_reference=of)
    created_ms = time_ms(checkout.created_at)
    match checkout.status:
        case "COMPLETED" | "REFUNDED" | "PARTIALLY_REFUNDED" if created_ms is not None:
            return _paid(checkout, expected.money, created_ms)
        case "DEACTIVATED" | "EXPIRED" | "FAILED" if checkout.transaction_hash or checkout.settlement is not None:
            return Unknown(reason="paid_contradicts_status", provider_reference=of)
        case "DEACTIVATED" | "EXPIRED" | "FAILED":
            code, message = _UNPAID[checkout.status]
            return Declined(code=code, message=message, provider_reference=of)
        case "ACTIVE":
            return Unknown(reason=ASKED, provider_reference=of)
        case "PROCESSING":
            return Unknown(reason="payment_processing", provider_reference=of)
        case _:
            return Unknown(reason="status_unknown", provider_reference=of)


def refunded(refund: Refunded, money: Money, reason: str) -> Confirmed | Declined | Unknown:
    """What a refund says; on the chain it takes its time."""
    reference = ProviderReference(refund.id)
    if refund.reason != reason:
        return Unknown(reason="reference_differs", provider_reference=reference)
    if not _is_money(refund, money):
        return Unknown(reason="amount_differs", provider_reference=reference)
    created_ms = time_ms(refund.created_at)
    match refund.status:
        case "COMPLETED" if created_ms is not None:
            settled = _other_money(refund, money)
            return Confirmed(provider_reference=reference, amount=money, confirmed_ms=created_ms, settled=settled)
        case "FAILED":
            return Declined(
                code="refund_failed", message="Coinbase did not give it back.", provider_reference=reference
            )
        case "PENDING":
            return Unknown(reason="refund_pending", provider_reference=reference)
        case _:
            return Unknown(reason="status_unknown", provider_reference=reference)


def failure(reply: Reply) -> Refused | Unknown:
    """What an answer that is no success means."""
    error: _Error | None = read(reply.body, _Error)
    if error is not None and error.error_type == "idempotency_error":
        return Unknown(reason="key_reused")
    unclear = left_open(reply.status)
    if unclear is not None:
        return unclear
    if error is None:
        return Unknown(reason="answer_unreadable")
    named = _CODES.get(error.error_type, error.error_type)
    code = named if _ISSUE.match(named) else "request_refused"
    return Refused(code=code, detail=error.error_message[:TEXT_CHARACTERS_MAX])


def value_for_coinbase(money: Money) -> str | Refused:
    """`money` as Coinbase writes it, exactly, or why it cannot."""
    if money.currency not in CURRENCIES:
        return Refused(code="currency_unsupported", detail=f"Coinbase does not ask for {money.currency}")
    digits = exponent(money.currency)
    whole, rest = divmod(money.amount_minor, int(10**digits))
    return f"{whole}.{rest:0{digits}d}"


def _paid(checkout: Checkout, money: Money, created_ms: int) -> Confirmed | Unknown:
    settlement, asked = checkout.settlement, _decimal(checkout.amount)
    is_as_asked = settlement is None or (
        settlement.currency == checkout.currency and _decimal(settlement.total_amount) == asked
    )
    if asked is None or not is_as_asked:
        return Unknown(reason="settlement_differs", provider_reference=checkout.reference)
    return Confirmed(
        provider_reference=checkout.reference,
        amount=money,
        # A checkout keeps no time of its payment; when it was made never changes, and is a few minutes before.
        confirmed_ms=created_ms,
        settled=_other_money(checkout, money),
    )


def _is_money(about: Checkout | Refunded, money: Money) -> bool:
    """What was asked in a currency of the world comes back beside what it is in USDC."""
    if about.fiat_currency:
        return about.fiat_currency == money.currency and is_value_of(about.fiat_amount or "", money)
    return about.currency == money.currency and is_value_of(about.amount, money)


def _other_money(about: Checkout | Refunded, money: Money) -> str | None:
    said = f"{about.amount} {about.currency}"
    return said if about.currency != money.currency and _SETTLED.match(said) else None


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if _AMOUNT.match(text) else None

"""What the core asks of a payment provider: move money once, and tell afterwards whether it moved.

Owns the questions and the answers; must never name a vendor. Every answer is a value, never an exception, because money
may already have moved when it is given. Cancellation alone is raised: the caller's deadline passed, the answer is lost
and the operation counts as `Unknown`.

Rules for callers:
- An operation is asked only after its intent's commit returned success.
- A `provider_key` is sent once, ever: providers forget keys after a day, and then the same key makes a new charge.
  What is unclear is read back with `find`.
- `Refused` and `NotSent` speak of this request alone. When an earlier request under the same key may have arrived, they
  prove nothing about it: ask `find`.

Source: ARCHITECTURE section 3, "Operations".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NewType, Protocol

from appliance.model.ids import OperationId, ProviderKey, ProviderReference, RequestKey, TerminalId
from appliance.model.invariants import ensure
from appliance.model.money import Money

CardSource = NewType("CardSource", str)
"""Where the provider takes the card from: a reader's name, or in the sandbox a test card. Never a card number."""

BANK_UNREACHABLE: Final = "bank_unreachable"
"""Code of the `Declined` of a device that could not ask the card's bank, and may not or will not do without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the provider stores beside the money, so that it can be found again without its own name for it."""

    log_origin: str
    payment_key: RequestKey
    operation_id: OperationId
    terminal_id: TerminalId


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Ask the customer to agree to `amount` at the provider. Takes and holds nothing, whatever the customer does."""

    provider_key: ProviderKey
    reference: Reference
    amount: Money

    def __post_init__(self) -> None:
        ensure(self.amount.amount_minor > 0, "a customer agrees to a positive amount")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorise:
    """Take `amount` from a card; or have its bank hold it, to be captured later; or let the customer pay it himself.

    Attributes:
        of: what the customer agreed to before (`Offers`); then `source` says nothing.
        may_accept_offline: a device that cannot reach the card's bank may take the card by its own rules and answer
            `AcceptedOffline` (`Forwards`); without it that is `Declined` with `BANK_UNREACHABLE`.
        may_be_partial: the card's bank may approve less: then, and only then, `PartlyConfirmed` is an answer.
        show: awaited once with what the customer must see, by a provider at which he moves the money himself. Nobody
            can pay before it returns, so what it writes down is durable first.
    """

    provider_key: ProviderKey
    reference: Reference
    amount: Money
    source: CardSource
    is_captured_later: bool = False
    of: ProviderReference | None = None
    may_accept_offline: bool = False
    may_be_partial: bool = False
    show: Show | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        ensure(self.amount.amount_minor > 0, "a card payment takes a positive amount")
        ensure(not (self.is_captured_later and self.may_accept_offline), "nobody holds money without a bank")
        ensure(not (self.may_be_partial and self.is_captured_later), "what is held is held whole")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Take `amount` of the `held` that the payment `of` holds; what is above it is given up."""

    provider_key: ProviderKey
    reference: Reference
    amount: Money
    held: Money
    of: ProviderReference

    def __post_init__(self) -> None:
        ensure(0 < self.amount.amount_minor <= self.held.amount_minor, "a capture takes at most what is held")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Give `amount` back out of the captured payment `of`. Reversing a captured payment is refunding all of it."""

    provider_key: ProviderKey
    reference: Reference
    amount: Money
    of: ProviderReference

    def __post_init__(self) -> None:
        ensure(self.amount.amount_minor > 0, "a refund gives a positive amount")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Withdraw the payment `of`, which took no money yet; a captured one is refused (`payment_already_captured`).

    Of a payment that was accepted offline: its bank is not to be asked at all (`Forwards`).
    """

    provider_key: ProviderKey
    reference: Reference
    amount: Money
    of: ProviderReference


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Ask the card's bank now for the `amount` that the payment `of` accepted offline."""

    provider_key: ProviderKey
    reference: Reference
    amount: Money
    of: ProviderReference

    def __post_init__(self) -> None:
        ensure(self.amount.amount_minor > 0, "a bank is asked for a positive amount")


Operation = Authorise | Capture | Refund | Cancel | Forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """It happened. Amount, currency and reference of the provider's answer were compared with what was asked.

    Attributes:
        confirmed_ms: the provider's clock, Unix milliseconds.
        settled: what the provider moved where it is not the money of `amount`, such as `13.50 USDC`.
    """

    provider_reference: ProviderReference
    amount: Money
    confirmed_ms: int
    settled: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedOffline:
    """The card's side took the card without its bank: the money comes only if the bank agrees later (`Forward`).

    Said of an `Authorise` alone, of all of its amount, and only where it allowed that; anything else is `Unknown`.

    Attributes:
        provider_reference: names it for `Forward`, `Cancel` and `Refund`, also which of several devices keeps it.
        accepted_ms: the device's clock, Unix milliseconds.
    """

    provider_reference: ProviderReference
    amount: Money
    accepted_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartlyConfirmed:
    """It took less than it was asked for, because the card's bank approved no more; the question allowed that.

    Attributes:
        amount: what it took: above zero, and less than the amount asked for.
        confirmed_ms: the provider's clock, Unix milliseconds.
    """

    provider_reference: ProviderReference
    amount: Money
    confirmed_ms: int


class Basis(Enum):
    """What a no rests on. For our own log all are equally good; for a lost box's they are not."""

    ANSWER = "answer"  # the provider, or the device, speaks of this very operation
    ABSENCE = "absence"  # it does not know it, as it would not in another account either
    OWN_LOG = "own_log"  # nobody was asked: the log would hold more if anything had followed


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """A typed answer of the card's side: no. Final; no money moved.

    Attributes:
        code: stable lower_snake, such as `insufficient_funds`, `expired_card`, `card_declined`.
        message: one sentence for the cashier.
        provider_reference: the provider's name for the attempt, when it made one.
        basis: what it rests on.
    """

    code: str
    message: str
    provider_reference: ProviderReference | None = None
    basis: Basis = Basis.ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The provider did not accept this request (parameters, credentials) and did nothing; an operator must act."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """No byte of this request left the box, provably: no connection could be made.

    Of a `Forward` also: the device has said that it did not ask the bank, and that the payment still waits in it; of a
    `Forward` or `Cancel` also: the device is in use by a customer.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """It may have happened: lost, late, contradictory or unreadable answers. `find` will tell, later.

    Attributes:
        reason: stable lower_snake, for logs and entries.
        provider_reference: the provider's name for it, when one was seen; pass it to `find`.
    """

    reason: str
    provider_reference: ProviderReference | None = None

    @property
    def has_hung(self) -> bool:
        """Nobody answered in time: who asks again now waits as long again."""
        return self.reason == "deadline_passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """The customer may agree or pay now.

    Attributes:
        show: the address that the customer must open; None: there is nothing to see.
    """

    provider_reference: ProviderReference
    show: str | None


Show = Callable[[Offered], Awaitable[None]]

Answer = Confirmed | PartlyConfirmed | AcceptedOffline | Declined | Refused | NotSent | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The provider has the operation, with this final answer; `AcceptedOffline` of an `Authorise` alone, also after its
    bank was asked."""

    answer: Confirmed | PartlyConfirmed | AcceptedOffline | Declined


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """One complete listing, read to its last page, does not hold the operation; of a capture or cancel: the payment
    still only holds the money; of a forward, or the cancel of what was accepted offline: it still waits for its bank.
    Proof needs two readings: `payment/resolve.py`.

    Attributes:
        as_of_ms: the provider's clock when the reading began, Unix milliseconds; two listings are compared by it.
    """

    as_of_ms: int


class Offers(Protocol):
    """A provider at which the customer agrees first. Only an `Authorise` of the offer takes money, and only we send it:
    an offer that nobody takes up after a crash is harmless."""

    @property
    def customer_ms(self) -> int:
        """How long a customer may take to agree."""
        ...

    async def offer(self, operation: Offer) -> Offered | Refused | NotSent | Unknown:
        """Make what the customer agrees to."""
        ...

    async def await_customer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        """Wait until the customer agreed (`Confirmed`), or until the time is over or `give_up` is called."""
        ...

    async def look_at_offer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        """Whether the customer agreed, without waiting; `Declined` once the customer's time is over."""
        ...


class Provider(Protocol):
    """A payment provider; one verb per kind of operation, one to read back."""

    async def authorise(self, operation: Authorise) -> Answer:
        """Take a card payment, or have it held (`Holds`)."""
        ...

    async def refund(self, operation: Refund) -> Answer:
        """Give captured money back; never above what is left."""
        ...

    def patience_ms(self, operation: Operation) -> int:
        """How long an answer may take, with the customer's time at a reader; after that it is lost."""
        ...

    def give_up(self, provider_key: ProviderKey) -> None:
        """Wait no longer for the customer of a running authorisation; its answer, whichever it is, comes soon.

        He may not be waited for yet: then he never is.
        """
        ...

    def hurry(self, reference: ProviderReference) -> bool:
        """Somebody says that something happened to it: look now. False when no answer is awaited about it."""
        ...

    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> Found | Absent | Unknown:
        """Ask whether the provider has `operation`, by reading only.

        The one exception takes no money: an authorisation left behind at a reader or an address is withdrawn once its
        customer's time is over, so that it can have an end.

        Args:
            since_ms: how far back a listing reads, on the box's clock; must lie before the intent, with room for every
                error that clock can have had since.
            known: the provider's name for the operation, when an answer carried one; then nothing is listed and
                `Absent` is never said of an authorisation or refund.
        Returns:
            Unknown when the reading failed, was incomplete, found something unfinished, or when the box's clock and the
            provider's disagree so much that the window proves nothing.
        """
        ...

    async def close(self) -> None:
        """Release connections; nothing is asked afterwards."""
        ...


class Holds(Provider, Protocol):
    """A provider that can have a card's bank hold the money first; any other one takes it at once or not at all."""

    async def capture(self, operation: Capture) -> Answer:
        """Take money that is held. One that was captured so before is `Confirmed`."""
        ...

    async def cancel(self, operation: Cancel) -> Answer:
        """Withdraw a payment that took no money yet. One that was withdrawn or has expired before is `Confirmed`."""
        ...


class Forwards(Provider, Protocol):
    """A provider whose devices may accept a card without its bank, and ask the bank later, when they are told to.

    The core forwards, the oldest first and one at a time for each `source` and till. Where a device asked the bank
    before, by itself, `forward` and `find` say what the bank said. What was confirmed is refunded like any other
    payment, under the same reference.
    """

    async def forward(self, operation: Forward) -> Answer:
        """Ask the bank: `Confirmed`, it agreed; `Declined`, it said no, although the goods are gone.

        `NotSent` where that could not be done and nothing changed: it is asked again later, under a new key.
        """
        ...

    async def cancel(self, operation: Cancel) -> Answer:
        """Forget what was accepted offline, so that its bank is never asked: `Confirmed`, also when it was so before.

        `Refused` where the device cannot, or has asked the bank already: then it is forwarded, and refunded after that.
        """
        ...

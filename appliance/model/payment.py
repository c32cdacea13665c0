"""The stages of a payment. Each stage's type is the proof that the stage before it was passed.

    AuthenticatedRequest -> ValidPayment -> ClearedPayment -> RecordedPayment                    (cash holds by itself)
                                                 |
                                                 +-> PreparedPayment -> Answer -> RecordedPayment    (a card is asked)

A function that takes `ClearedPayment` cannot be handed a `ValidPayment`: skipping a stage is a type error
(tests/architecture/wrong_order.py is the code that must not type-check). Only `payment/authorise.py` makes a
`PreparedPayment`, and `spend()` lets it reach a provider once: charging twice needs two intents, and the ledger's
guard refuses the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from appliance.model.ids import RequestKey, TerminalId
from appliance.model.invariants import ensure
from appliance.model.offline import Exceeded
from appliance.model.operation import Operation, OperationKind, OperationState
from appliance.model.sale import Sale
from appliance.model.screening import Verdict

if TYPE_CHECKING:  # it reads the states below
    from appliance.model.parts import SaleInParts

BodyT = TypeVar("BodyT", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who and which, bound to a payment through every stage.

    Attributes:
        payload_hash: SHA-256 of the canonical payload without the time of signing: equal for honest retries.
        signed: the request exactly as it came (COSE or JWS); it becomes a disclosure.
        received_ms: the box's clock when it arrived.
    """

    key: RequestKey
    terminal: TerminalId
    payload_hash: bytes
    signed: bytes
    received_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedRequest(Generic[BodyT]):
    """A request whose signature, audience, freshness and key age were checked, by `identity/authenticate.py`."""

    identity: Identity
    body: BodyT


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidPayment:
    """A sale that adds up, in the shop's currency, with personal data apart from the facts.

    Attributes:
        personal: erasable values by name (cashier, customer); the ledger keeps commitments to them.
        retry_of: the tries of the same sale before this one, each once, the newest first.
    """

    identity: Identity
    sale: Sale
    personal: tuple[tuple[str, str], ...]
    retry_of: tuple[RequestKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearedPayment:
    """A valid payment that the rules let through, on a box that may sell now."""

    valid: ValidPayment
    verdict: Verdict


@dataclass(slots=True, kw_only=True)
class PreparedPayment:
    """A payment whose intent is durable; it may be sent to the provider exactly once.

    Attributes:
        intent_hash: SHA-256 of the intent's entry; the outcome names it.
        outlived: earlier tries of the same sale: nobody waits for their customers any longer.
    """

    cleared: ClearedPayment
    operation: Operation
    intent_seq: int
    intent_hash: bytes
    outlived: tuple[RequestKey, ...] = ()
    _is_spent: bool = field(default=False, init=False)

    def spend(self) -> Operation:
        """Take the operation out, once."""
        ensure(not self._is_spent, "a prepared payment is sent to the provider once")
        self._is_spent = True
        return self.operation


class PaymentState(StrEnum):
    """What a terminal is told about a payment."""

    APPROVED = "approved"
    AUTHORISED = "authorised"  # the card's bank holds the money; it is not taken yet
    DECLINED = "declined"
    ACCEPTED_OFFLINE = "accepted_offline"  # the card was taken without its bank, which may still say no
    DECLINED_AFTER_HANDOVER = "declined_after_handover"  # its bank said no, and the goods are gone
    CHECKING = "being_checked"
    EXPIRED = "expired"  # held for too long, and given up without being taken
    NOT_CHARGED = "not_charged"  # proven absent at the provider
    PARTLY_REFUNDED = "partly_refunded"
    REFUNDED = "refunded"
    REVERSED = "reversed"
    CANCELLED = "cancelled"  # a tombstone: reversed or aborted before it was ever seen


STATE_AFTER: Final[dict[tuple[OperationKind, OperationState], PaymentState | None]] = {
    (OperationKind.OFFER, OperationState.CONFIRMED): PaymentState.CHECKING,  # the taking follows in the same commit
    (OperationKind.OFFER, OperationState.REJECTED): PaymentState.DECLINED,
    (OperationKind.OFFER, OperationState.ABSENT): PaymentState.NOT_CHARGED,
    (OperationKind.OFFER, OperationState.UNKNOWN): PaymentState.CHECKING,
    (OperationKind.AUTHORISE, OperationState.CONFIRMED): PaymentState.APPROVED,
    (OperationKind.AUTHORISE, OperationState.REJECTED): PaymentState.DECLINED,
    (OperationKind.AUTHORISE, OperationState.ABSENT): PaymentState.NOT_CHARGED,
    (OperationKind.AUTHORISE, OperationState.UNKNOWN): PaymentState.CHECKING,
    (OperationKind.AUTHORISE, OperationState.ACCEPTED): PaymentState.ACCEPTED_OFFLINE,
    (OperationKind.FORWARD, OperationState.CONFIRMED): PaymentState.APPROVED,
    (OperationKind.FORWARD, OperationState.REJECTED): PaymentState.DECLINED_AFTER_HANDOVER,
    (OperationKind.FORWARD, OperationState.ABSENT): PaymentState.ACCEPTED_OFFLINE,  # it waits for the next forward
    (OperationKind.FORWARD, OperationState.UNKNOWN): PaymentState.CHECKING,
    (OperationKind.WITHDRAW, OperationState.CONFIRMED): PaymentState.CHECKING,  # its entry follows in the same commit
    (OperationKind.WITHDRAW, OperationState.REJECTED): PaymentState.ACCEPTED_OFFLINE,  # reversed after its forward
    (OperationKind.WITHDRAW, OperationState.ABSENT): PaymentState.CHECKING,  # a new attempt follows in the same commit
    (OperationKind.WITHDRAW, OperationState.UNKNOWN): PaymentState.CHECKING,
    (OperationKind.RESERVE, OperationState.CONFIRMED): PaymentState.AUTHORISED,
    (OperationKind.RESERVE, OperationState.REJECTED): PaymentState.DECLINED,
    (OperationKind.RESERVE, OperationState.ABSENT): PaymentState.NOT_CHARGED,
    (OperationKind.RESERVE, OperationState.UNKNOWN): PaymentState.CHECKING,
    (OperationKind.CAPTURE, OperationState.CONFIRMED): PaymentState.APPROVED,
    (OperationKind.CAPTURE, OperationState.REJECTED): PaymentState.AUTHORISED,
    (OperationKind.CAPTURE, OperationState.ABSENT): PaymentState.CHECKING,  # a new attempt follows in the same commit
    (OperationKind.CAPTURE, OperationState.UNKNOWN): PaymentState.CHECKING,
    (OperationKind.CANCEL, OperationState.CONFIRMED): PaymentState.EXPIRED,  # of a reversal its entry follows
    (OperationKind.CANCEL, OperationState.REJECTED): PaymentState.AUTHORISED,
    (OperationKind.CANCEL, OperationState.ABSENT): PaymentState.CHECKING,
    (OperationKind.CANCEL, OperationState.UNKNOWN): PaymentState.CHECKING,
    (OperationKind.REFUND, OperationState.CONFIRMED): PaymentState.CHECKING,  # its entry follows in the same commit
    (OperationKind.REFUND, OperationState.REJECTED): None,
    (OperationKind.REFUND, OperationState.ABSENT): PaymentState.CHECKING,  # a new attempt follows in the same commit
    (OperationKind.REFUND, OperationState.UNKNOWN): PaymentState.CHECKING,
    (OperationKind.REVERSE, OperationState.CONFIRMED): PaymentState.CHECKING,
    (OperationKind.REVERSE, OperationState.REJECTED): None,
    (OperationKind.REVERSE, OperationState.ABSENT): PaymentState.CHECKING,
    (OperationKind.REVERSE, OperationState.UNKNOWN): PaymentState.CHECKING,
}
"""How a payment stands once its operation does, the whole truth; None: as before, `approved` or `partly_refunded`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedPayment:
    """What the ledger says.

    Attributes:
        entry_seqs: the entries that prove it: the sale, what the newest outcome answers, and the newest.
        refunded_minor: given back of the payment in all, when the newest of these entries was written.
        given_minor: what the one refund gave that this is about; 0 for everything else.
        capture_before_ms: until when an authorised payment may be captured.
        offline: why it may not be accepted offline, where that is why it was declined.
        total_minor: what it pays of its sale, without tip: of a part, that part.
        sale: how a sale that is paid in parts stands.
    """

    key: RequestKey
    state: PaymentState
    entry_seqs: tuple[int, ...]
    total_minor: int
    currency: str
    code: str | None
    refunded_minor: int = 0
    given_minor: int = 0
    capture_before_ms: int | None = None
    offline: Exceeded | None = None
    sale: SaleInParts | None = None

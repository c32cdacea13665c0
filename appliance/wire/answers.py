"""What the box answers. The same members in CBOR and in JSON; bytes are base64 text (RFC 4648 section 4) in JSON."""

from __future__ import annotations

from typing import Literal

from appliance.wire.attestation import Attestation
from appliance.wire.reconcile_entries import BreakFacts, ReconciledEntry
from appliance.wire.requests import Wire
from appliance.wire.till_entries import DayClosedEntry, PeriodFacts

State = Literal[
    "approved",
    "authorised",
    "declined",
    "accepted_offline",
    "declined_after_handover",
    "being_checked",
    "expired",
    "not_charged",
    "partly_refunded",
    "refunded",
    "reversed",
    "cancelled",
]


VoucherState = Literal["open", "spent", "expired", "voided"]
VaultState = Literal["kept", "expired", "forgotten", "erased"]


class OfflineAnswer(Wire, frozen=True, kw_only=True):
    """What hangs on banks that could not be asked, at the till that sold and in the whole box, as it is now.

    Attributes:
        limit: of a payment that was declined by a limit: `sale`, `terminal`, `box` or `age`.
        left_minor: the largest amount that this limit would have allowed then.
        terminal_minor, terminal_count: accepted offline at this till and not confirmed yet.
        box_minor, box_count: the same of all tills.
    """

    limit: Literal["sale", "terminal", "box", "age"] | None = None
    box_count: int = 0
    box_minor: int = 0
    left_minor: int = 0
    terminal_count: int = 0
    terminal_minor: int = 0


class PartAnswer(Wire, frozen=True, kw_only=True):
    """One payment of a sale in parts; `left_minor` may still be given back of it. Its own `status` has the proof."""

    key: str
    state: State
    left_minor: int = 0
    total_minor: int


class SaleAnswer(Wire, frozen=True, kw_only=True):
    """How a sale that is paid in parts stands.

    Attributes:
        key: of the first part: later ones name it as `part_of`.
        parts: in the order that they came.
        paid_minor, remaining_minor: of `total_minor`; what is open may be on its way.
        closed: `yes`: it was given up, or refunds gave back of it: nothing is added to it.
    """

    key: str
    parts: tuple[PartAnswer, ...]
    closed: Literal["no", "yes"] = "no"
    paid_minor: int
    total_minor: int
    remaining_minor: int


class PaymentAnswer(Wire, frozen=True, kw_only=True):
    """The durable result of one key.

    Attributes:
        verb: what the key was used for: payment, capture, refund, reversal, abort.
        seq: index of the newest entry about it; give it to `GET /v1/events?after=`.
        receipt: receipt file (docs/formats/receipt.md), absent while `pending`.
        pending: the result is durable, its signature is still to come: ask `status`.
        code: the provider's decline code, or why the answer is not final yet; of a refund: why it gave nothing.
        show: while `being_checked`: an address that the customer must open to agree; show it as a QR code.
        given_minor: what this refund gave; 0 while it is being checked, and when it gave nothing.
        capture_before_ms: while `authorised`: until when it may be captured.
        refunded_minor: given back of the payment in all, as far as `seq`.
        offline: of a payment that was accepted offline, or was not because of a limit.
        total_minor: of its sale: what this payment pays, without the tip.
        sale: of a payment in parts.
    """

    key: str
    seq: int
    code: str | None = None
    sale: SaleAnswer | None = None
    show: str | None = None
    verb: str
    state: State
    now_ms: int
    offline: OfflineAnswer | None = None
    pending: bool = False
    receipt: bytes | None = None
    currency: str
    given_minor: int = 0
    total_minor: int
    refunded_minor: int = 0
    capture_before_ms: int | None = None


class BatchResult(Wire, frozen=True, kw_only=True):
    """What became of one stored sale: `code` and `detail` are there when it was refused."""

    key: str
    seq: int | None = None
    code: str | None = None
    state: State | Literal["refused"]
    detail: str | None = None


class BatchAnswer(Wire, frozen=True, kw_only=True):
    """One result for each stored sale in the order sent, and one receipt with a proof for each accepted one."""

    key: str
    now_ms: int
    pending: bool = False
    receipt: bytes | None = None
    results: tuple[BatchResult, ...]


class PairAnswer(Wire, frozen=True, kw_only=True):
    """What a terminal keeps after pairing.

    Attributes:
        proof: hex of HMAC-SHA256(code, "tillstone/pair/answer/v1" || public key || SHA-256(trust || authority)).
        trust: trust.json as text (docs/formats/genesis.md): what the terminal verifies receipts with.
        authority: PEM of the authority that signs the door's certificates, which are renewed weekly: what the terminal
            trusts from now on. Empty when there is none; then the terminal pins the certificate itself.
    """

    proof: str
    trust: str
    now_ms: int
    audience: str
    currency: str
    terminal: str
    authority: str


class DrawerAnswer(Wire, frozen=True, kw_only=True):
    """What was done to a drawer is in the log.

    Attributes:
        held_minor: what the drawer holds now, as far as the log knows.
        difference_minor: of a count: what was counted above what was expected; below is negative.
    """

    act: str
    key: str
    seq: int
    drawer: str
    now_ms: int
    pending: bool = False
    receipt: bytes | None = None
    currency: str
    held_minor: int
    amount_minor: int
    difference_minor: int | None = None


class VoucherAnswer(Wire, frozen=True, kw_only=True):
    """A voucher as it stands now. `seq` and `receipt` are of the entry that issued it or took it back.

    Attributes:
        code: of an issue alone: whoever holds it may spend the voucher. Absent once it was erased.
        voucher: SHA-256 behind the code, hexadecimal: what entries say in its place.
        amount_minor, left_minor: as issued, and still to be spent.
    """

    act: str
    key: str
    seq: int | None = None
    code: str | None = None
    state: VoucherState
    now_ms: int
    pending: bool = False
    receipt: bytes | None = None
    voucher: str
    currency: str
    expires_ms: int | None = None
    left_minor: int
    amount_minor: int


class TokenAnswer(Wire, frozen=True, kw_only=True):
    """A token of the vault as it stands now, by its name; the token itself is in no answer.

    `seq` and `receipt` are of the entry that kept or forgot it.
    """

    act: str
    key: str
    seq: int | None = None
    name: str
    state: VaultState
    now_ms: int
    pending: bool = False
    receipt: bytes | None = None
    provider: str
    purposes: tuple[str, ...]
    expires_ms: int | None = None


class EscrowAnswer(Wire, frozen=True, kw_only=True):
    """The newest sealed parcel, made when the log had `size` entries; absent where the terminal has that one.

    Attributes:
        waiting: payments whose money is not certain yet, also those that the parcel had no room for.
    """

    key: str
    size: int
    now_ms: int
    parcel: bytes | None = None
    waiting: int


class AttestAnswer(Wire, frozen=True, kw_only=True):
    """What the TPM says of the machine."""

    key: str
    now_ms: int
    attestation: Attestation


class ReportAnswer(Wire, frozen=True, kw_only=True):
    """A period. `seq` is the entry of a `z` and `receipt` proves it; an `x` is neither recorded nor signed."""

    key: str
    seq: int | None = None
    kind: str
    now_ms: int
    period: PeriodFacts
    pending: bool = False
    receipt: bytes | None = None


class DayAnswer(Wire, frozen=True, kw_only=True):
    """A day of the shop, for the operator. Without `seq` it is open still, and the report is what it came to so far.

    Attributes:
        is_new: this very request closed it.
        reconciled: the same day beside each provider's statement, or the last day that was compared.
    """

    day: DayClosedEntry
    seq: int | None = None
    is_new: bool = False
    pending: bool = False
    receipt: bytes | None = None
    reconciled: tuple[ReconciledEntry, ...] = ()


class ReconcileAnswer(Wire, frozen=True, kw_only=True):
    """A day beside the provider's statement, for the operator. Without `seq` it was only looked at.

    Attributes:
        breaks: the first of the `open_count` that are open now; of a day that was only looked at, those it would open.
        is_new: this very request wrote the entry.
        on_its_way: movements of a day that was only looked at which one side has already; no breaks yet.
        not_compared: providers of the settings whose statement the box cannot read: nothing is said of their money.
    """

    day: ReconciledEntry
    seq: int | None = None
    breaks: tuple[BreakFacts, ...] = ()
    is_new: bool = False
    on_its_way: int = 0
    open_count: int
    not_compared: tuple[str, ...] = ()


class ComparedAnswer(Wire, frozen=True, kw_only=True):
    """Providers of the settings whose money is compared with their statement, and those of whom nothing is said."""

    compared: tuple[str, ...]
    not_compared: tuple[str, ...] = ()


class HeadAnswer(Wire, frozen=True, kw_only=True):
    """The head that was shown is one of this log, which has `size` entries now."""

    key: str
    size: int
    now_ms: int


class Event(Wire, frozen=True, kw_only=True):
    """One line of the terminal's event stream."""

    key: str
    seq: int
    code: str | None = None
    show: str | None = None
    verb: str
    state: State


class Problem(Wire, frozen=True, kw_only=True):
    """A refusal (RFC 9457): `code` is stable, `detail` says what was expected and what was seen."""

    code: str
    type: str
    title: str
    detail: str
    now_ms: int
    status: int
    event_id: str | None = None


Answer = (
    PaymentAnswer
    | BatchAnswer
    | DrawerAnswer
    | VoucherAnswer
    | TokenAnswer
    | EscrowAnswer
    | AttestAnswer
    | ReportAnswer
    | PairAnswer
    | HeadAnswer
    | Problem
)

"""The bodies of entries: what the ledger keeps for ever. A change here is a new kind or a new version.

No personal data: `payload`, `request`, `cashier` and `customer` are commitments, SHA-256(salt || value); salts and
values are disclosures. Source: docs/formats/entry-kinds.md.
"""

from __future__ import annotations

from typing import Final

from appliance.wire.requests import LineBody, RefundLine, TaxBody, TenderBody, Wire

SALE: Final = "sale"
INTENT: Final = "intent"
OUTCOME: Final = "outcome"
REFUND: Final = "refund"
REVERSAL: Final = "reversal"
TOMBSTONE: Final = "tombstone"
REVERSAL_WANTED: Final = "reversal_wanted"
SALE_GIVEN_UP: Final = "sale_given_up"
TERMINAL_PAIRED: Final = "terminal_paired"
TERMINAL_REVOKED: Final = "terminal_revoked"
BOOT: Final = "boot"
CLOCK_STEP: Final = "clock_step"
REFUSALS: Final = "refusals"
AUDITOR_ADMITTED: Final = "auditor_admitted"
AUDITOR_REVOKED: Final = "auditor_revoked"
AUDITOR_READ: Final = "auditor_read"
VERIFIED: Final = "verified"
EXPORTED: Final = "exported"
SCREENING_REFUSED: Final = "screening_refused"
SCREENING_CHANGED: Final = "screening_changed"
CONTRADICTED: Final = "contradicted"

TERMINAL_ACTOR: Final = "terminal:"
"""What stands before a terminal's name in the actor of an entry."""
PAYLOAD: Final = "payload"
"""The commitment to the payload's hash; its salt lies in the shares of the signed request."""
REQUEST: Final = "request"
"""The commitment to the signed request; a further share of it is `request.N`."""


class SaleFacts(Wire, frozen=True, kw_only=True):
    """The sale as it stands in the ledger, all amounts in minor units.

    Attributes:
        part_of: key of the first part, of a later one, whose `total` is what it covers and which has no lines.
        partial: `accepted`: the provider may take less than it is asked for.
        remaining: what a first part leaves to later ones.
    """

    tip: int = 0
    lines: tuple[LineBody, ...]
    taxes: tuple[TaxBody, ...] = ()
    total: int
    change: int = 0
    prices: str = "tax_included"
    capture: str = "at_once"
    part_of: bytes | None = None
    partial: str = "refused"
    tenders: tuple[TenderBody, ...]
    currency: str
    rounding: int = 0
    reference: str = ""
    remaining: int = 0
    sold_at_ms: int


class Asked(Wire, frozen=True, kw_only=True):
    """Which request an entry answers: key (16 bytes), commitments (32 bytes each) to erasable values by name."""

    key: bytes
    commitments: dict[str, bytes]


class ReasonFacts(Wire, frozen=True, kw_only=True):
    """A rule of screening that spoke: what it saw, and the limit as it was then."""

    rule: str
    seen: int
    limit: int


class ScreenFacts(Wire, frozen=True, kw_only=True):
    """The verdict of screening, `passed`, `watched` or `refused`; `score` (permille) where `model` (SHA-256) looked."""

    model: bytes | None = None
    score: int | None = None
    reasons: tuple[ReasonFacts, ...] = ()
    verdict: str


class SaleEntry(Wire, frozen=True, kw_only=True):
    """kind `sale`: all tenders hold by themselves: cash, vouchers, a card stated by the cashier; `retry` as below."""

    sale: SaleFacts
    asked: Asked
    retry: tuple[bytes, ...] = ()
    screen: ScreenFacts | None = None


class OperationFacts(Wire, frozen=True, kw_only=True):
    """An operation as its intent fixes it (model/operation.py); without `provider` the first that there was.

    Attributes:
        offline: a card may be taken without its bank.
        offline_limit, offline_left: the limit that forbids it, where the provider could, and what it leaves.
    """

    id: str
    held: int = 0
    kind: str
    amount: int
    source: str | None = None
    target: str | None = None
    offline: bool = False
    currency: str
    provider: str | None = None
    offline_left: int = 0
    provider_key: str
    offline_limit: str | None = None


class ReturnedTax(Wire, frozen=True, kw_only=True):
    """What a refund by line gives back under one tax code and rate: `gross` with `tax` (0 where none was stated)."""

    tax: int = 0
    gross: int
    tax_code: str
    rate_basis_points: int = 0


class RefundFacts(Wire, frozen=True, kw_only=True):
    """What a refund will have given when its operation is confirmed, and what is left of the payment then."""

    card: int = 0
    cash: int = 0
    left: int = 0
    lines: tuple[RefundLine, ...] = ()
    taxes: tuple[ReturnedTax, ...] = ()
    reason: str = ""
    stated: int = 0
    voucher: int = 0


class IntentEntry(Wire, frozen=True, kw_only=True):
    """kind `intent`: a provider is about to be asked.

    Attributes:
        sale: for what begins a payment.
        retry: keys of the tries of the same sale before this one, the newest first.
        refund: for a refund's first operation.
        screen: for both.
        request: key of the request behind it, where `asked` is absent because another entry has it.
    """

    sale: SaleFacts | None = None
    asked: Asked | None = None
    retry: tuple[bytes, ...] = ()
    refund: RefundFacts | None = None
    screen: ScreenFacts | None = None
    payment: bytes
    request: bytes | None = None
    operation: OperationFacts


class OutcomeEntry(Wire, frozen=True, kw_only=True):
    """kind `outcome`: what the provider did, or that it is being checked.

    Attributes:
        intent: SHA-256 of the intent's entry, so that one receipt binds both.
        request: key of the capture, refund or reversal that the operation serves.
        amount: what a capture took; what an authorisation did, where that is less than it was asked for.
        settled: what the provider moved where it is another money, such as `13.50 USDC`.
        capture_before: when the authorisation expires that a reserve got.
    """

    code: str | None = None
    kind: str
    state: str
    amount: int | None = None
    intent: bytes
    payment: bytes
    request: bytes | None = None
    settled: str | None = None
    operation: str
    reference: str | None = None
    capture_before: int | None = None


class UndoEntry(Wire, frozen=True, kw_only=True):
    """kinds `refund` and `reversal`: so much of a payment was given back; a reversal leaves nothing.

    `cash` is handed out by the till; `card` (if any) was confirmed by the outcome of `operation`; `stated` is what the
    cashier says to have given back at a stand-alone card terminal; `voucher` is spendable again.

    Attributes:
        left: of the payment, after this.
        screen: of a refund without a card; else its intent has it.
        tender: what `card` was paid by, where it was not a card.
        request: key of the request behind it, where `asked` is absent because another entry has it.
    """

    card: int = 0
    cash: int
    left: int = 0
    asked: Asked | None
    lines: tuple[RefundLine, ...] = ()
    taxes: tuple[ReturnedTax, ...] = ()
    reason: str = ""
    screen: ScreenFacts | None = None
    stated: int = 0
    tender: str | None = None
    payment: bytes
    request: bytes | None = None
    voucher: int = 0
    currency: str
    operation: str | None = None


class ContradictedEntry(Wire, frozen=True, kw_only=True):
    """kind `contradicted`: a provider has money of a payment that the log closed without any; nothing follows.

    Attributes:
        state: how the log closed the operation: rejected or absent.
        settled: what the provider moved where it is another money.
    """

    state: str
    amount: int
    payment: bytes
    settled: str | None = None
    currency: str
    provider: str
    operation: str
    reference: str


class TombstoneEntry(Wire, frozen=True, kw_only=True):
    """kind `tombstone`: a payment with this key, should it still come, is refused.

    Attributes:
        retry: key of the payment that was made in its place, where no request asks for this.
    """

    asked: Asked | None = None
    retry: bytes | None = None
    payment: bytes


class ReversalWantedEntry(Wire, frozen=True, kw_only=True):
    """kind `reversal_wanted`: the payment is reversed as soon as its outcome is known.

    Attributes:
        retry: key of the payment that stands in its place, where no request asks for this.
        request: key of the reversal of the whole sale, whose part it is.
    """

    asked: Asked | None = None
    retry: bytes | None = None
    payment: bytes
    request: bytes | None = None


class SaleGivenUpEntry(Wire, frozen=True, kw_only=True):
    """kind `sale_given_up`: a sale paid in parts must not stand; `payment` is its first part, no other follows.

    Each part that may keep money has a `reversal_wanted` of its own in the same commit.
    """

    asked: Asked
    reason: str = ""
    payment: bytes


class TerminalPairedEntry(Wire, frozen=True, kw_only=True):
    """kind `terminal_paired`: this public key (SPKI DER) speaks as this terminal from here on."""

    terminal: str
    public_key: bytes


class TerminalRevokedEntry(Wire, frozen=True, kw_only=True):
    """kind `terminal_revoked`: nothing signed by this terminal is accepted from here on."""

    reason: str
    terminal: str


class BootEntry(Wire, frozen=True, kw_only=True):
    """kind `boot`: the process started. `self_tests` counts the known-answer tests that passed."""

    epoch: int
    version: str
    self_tests: int
    post_quantum: str


class ClockStepEntry(Wire, frozen=True, kw_only=True):
    """kind `clock_step`: the wall clock moved against the monotonic one by this much."""

    step_ms: int


class RefusalsEntry(Wire, frozen=True, kw_only=True):
    """kind `refusals`: authenticated requests refused in the last minute, by code."""

    codes: dict[str, int]
    terminal: str


class AuditorAdmittedEntry(Wire, frozen=True, kw_only=True):
    """kind `auditor_admitted`: who shows the bearer token of SHA-256 `token` may read entries until it expires."""

    token: bytes
    auditor: str
    credential: str
    expires_ms: int


class AuditorRevokedEntry(Wire, frozen=True, kw_only=True):
    """kind `auditor_revoked`: the credential opens nothing from here on."""

    reason: str
    credential: str


class AuditorReadEntry(Wire, frozen=True, kw_only=True):
    """kind `auditor_read`: entries shown to one credential in the last minute, the lowest and highest among them."""

    last: int
    first: int
    entries: int
    requests: int
    credential: str


class VerifiedEntry(Wire, frozen=True, kw_only=True):
    """kind `verified`: every byte of the first `size` entries was read again and is what it must be."""

    root: bytes
    size: int
    took_ms: int


class ExportedEntry(Wire, frozen=True, kw_only=True):
    """kind `exported`: what was held about one person was handed out; `subject` is an alias, as in `erased`."""

    entries: int
    subject: str


class ScreeningRefusedEntry(Wire, frozen=True, kw_only=True):
    """kind `screening_refused`: a sale or refund that no money moved for; its key stays unused."""

    key: bytes
    verb: str
    amount: int
    screen: ScreenFacts


class ScreeningChangedEntry(Wire, frozen=True, kw_only=True):
    """kind `screening_changed`: the owner set these thresholds; they hold from here on, whatever the settings say."""

    changed: dict[str, int | str]


def terminal_of(actor: str) -> str:
    """The name of the terminal that an entry's actor is; any other actor as it stands."""
    return actor.removeprefix(TERMINAL_ACTOR)

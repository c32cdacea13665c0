"""The bodies of entries: what the ledger keeps for ever. A change here is a new kind or a new version.

No personal data: `request`, `cashier` and `customer` are commitments, SHA-256(salt || value); the values are
disclosures. Source: docs/formats/entry-kinds.md.
"""

from __future__ import annotations

from typing import Final

from appliance.wire.requests import LineBody, TaxBody, TenderBody, Wire

SALE: Final = "sale"
INTENT: Final = "intent"
OUTCOME: Final = "outcome"
REFUND: Final = "refund"
REVERSAL: Final = "reversal"
TOMBSTONE: Final = "tombstone"
REVERSAL_WANTED: Final = "reversal_wanted"
TERMINAL_PAIRED: Final = "terminal_paired"
TERMINAL_REVOKED: Final = "terminal_revoked"
BOOT: Final = "boot"
CLOCK_STEP: Final = "clock_step"
REFUSALS: Final = "refusals"


class SaleFacts(Wire, frozen=True, kw_only=True):
    """The sale as it stands in the ledger, all amounts in minor units."""

    currency: str
    total: int
    tenders: tuple[TenderBody, ...]
    lines: tuple[LineBody, ...]
    sold_at_ms: int
    prices: str = "tax_included"
    taxes: tuple[TaxBody, ...] = ()
    tip: int = 0
    rounding: int = 0
    change: int = 0
    reference: str = ""


class Asked(Wire, frozen=True, kw_only=True):
    """Which request an entry answers: key (16 bytes), payload hash (32), commitments to erasable values by name."""

    key: bytes
    payload: bytes
    commitments: dict[str, bytes]


class SaleEntry(Wire, frozen=True, kw_only=True):
    """kind `sale`: a sale whose tenders all hold by themselves (cash): approved."""

    asked: Asked
    sale: SaleFacts


class OperationFacts(Wire, frozen=True, kw_only=True):
    """An operation as its intent fixes it (model/operation.py)."""

    id: str
    kind: str
    provider_key: str
    amount: int
    currency: str
    target: str | None = None
    source: str | None = None


class IntentEntry(Wire, frozen=True, kw_only=True):
    """kind `intent`: a provider is about to be asked. `sale` is there for an authorisation, `of` for the others."""

    operation: OperationFacts
    payment: bytes
    asked: Asked | None = None
    sale: SaleFacts | None = None


class OutcomeEntry(Wire, frozen=True, kw_only=True):
    """kind `outcome`: what the provider did, or that it is being checked.

    Attributes:
        intent: SHA-256 of the intent's entry, so that one receipt binds both.
    """

    operation: str
    kind: str
    payment: bytes
    state: str
    intent: bytes
    reference: str | None = None
    code: str | None = None


class UndoEntry(Wire, frozen=True, kw_only=True):
    """kinds `refund` and `reversal`: all of a payment is given back.

    `cash` is handed out by the till; `card` (if any) was confirmed by the outcome of `operation`.
    """

    asked: Asked | None
    payment: bytes
    currency: str
    cash: int
    card: int = 0
    operation: str | None = None
    reason: str = ""


class TombstoneEntry(Wire, frozen=True, kw_only=True):
    """kind `tombstone`: a payment with this key, should it still come, is refused."""

    asked: Asked
    payment: bytes


class ReversalWantedEntry(Wire, frozen=True, kw_only=True):
    """kind `reversal_wanted`: the payment is open; it is reversed as soon as its outcome is known."""

    asked: Asked
    payment: bytes


class TerminalPairedEntry(Wire, frozen=True, kw_only=True):
    """kind `terminal_paired`: this public key (SPKI DER) speaks as this terminal from here on."""

    terminal: str
    public_key: bytes


class TerminalRevokedEntry(Wire, frozen=True, kw_only=True):
    """kind `terminal_revoked`: nothing signed by this terminal is accepted from here on."""

    terminal: str
    reason: str


class BootEntry(Wire, frozen=True, kw_only=True):
    """kind `boot`: the process started. `self_tests` counts the known-answer tests that passed."""

    version: str
    self_tests: int
    epoch: int
    post_quantum: str


class ClockStepEntry(Wire, frozen=True, kw_only=True):
    """kind `clock_step`: the wall clock moved against the monotonic one by this much."""

    step_ms: int


class RefusalsEntry(Wire, frozen=True, kw_only=True):
    """kind `refusals`: authenticated requests refused in the last minute, by code."""

    terminal: str
    codes: dict[str, int]

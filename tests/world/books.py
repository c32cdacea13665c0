"""What everybody outside the box knows: what was asked, what was told, and what must not have been.

Owns the memory of a world that no crash touches, and its history. Must never look into the box: `invariants.py` does,
at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from appliance.model.sale import MOVED_BY_PROVIDERS
from appliance.wire.answers import OfflineAnswer, SaleAnswer
from appliance.wire.requests import CaptureBody, PaymentBody, RefundBody
from tests.world.cash_books import CashBooks
from tests.world.pads import LIMITS
from tests.world.voucher_books import VoucherBooks

Harm = Literal["lost", "doubled", "falsely failed"]

FAILED: Final = frozenset({"declined", "not_charged", "cancelled"})
OVER: Final = frozenset({"refunded", "reversed", "expired"})
"""Money was taken or held, and is no more."""
LOST: Final = "declined_after_handover"
"""The goods are gone, and the card's bank said no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that did not hold, and which of the three harms it is or would have been."""

    harm: Harm
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A final, proven answer: under `key` a till heard that `payment` is in `state`, as of the entry `seq`.

    Attributes:
        given_minor: what the refund gave that it is about; `refunded_minor` what was given back in all until then.
    """

    key: str
    payment: str
    verb: str
    state: str
    seq: int
    given_minor: int = 0
    refunded_minor: int = 0


def total_of(body: PaymentBody) -> int:
    """What a sale comes to."""
    return (body.total_minor if body.amount_minor is None else body.amount_minor) or 0


def covers_of(body: PaymentBody) -> int:
    """What of it this payment is for."""
    return total_of(body) - body.remaining_minor


def card_of(body: PaymentBody) -> int:
    """What a provider is to take."""
    return sum(tender.amount_minor for tender in body.tenders if tender.kind in MOVED_BY_PROVIDERS)


class History:
    """What happened, in order; the digest is over this, and `note` lines are for people alone."""

    def __init__(self, now_ms: Callable[[], int], *, keeps_notes: bool) -> None:
        self._now_ms = now_ms
        self._keeps_notes = keeps_notes
        self._digest = hashlib.sha256()
        self.lines: list[str] = []
        self.echo: Callable[[str], None] | None = None

    def add(self, who: str, what: str) -> None:
        line = f"{self._now_ms():>10} {who:<8} {what}"
        self._digest.update(line.encode() + b"\n")
        self._keep(line)

    def note(self, who: str, what: str) -> None:
        if self._keeps_notes:
            self._keep(f"{self._now_ms():>10} {who:<8} . {what}")

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def _keep(self, line: str) -> None:
        self.lines.append(line)
        if self.echo is not None:
            self.echo(line)


@dataclass(slots=True, kw_only=True)
class Books:
    """Kept by all tills together.

    Attributes:
        sales: each payment ever asked for, with what it was to be.
        told: final answers that were believed; `heads` the signed heads they hung on.
        refunds: each refund ever asked for; `None` stands for all that is left.
        captures: each capture ever asked for.
        sold_at: the till that sold, by payment.
        cash: drawers, reports and days.
        in_parts: how each sale in parts was told to stand last.
        above: refunds that were refused because so much was not left.
        undone: payments whose refund, reversal or abort was asked for by somebody.
        taken: payments that the box answered for, be it that they are being checked.
        refused: keys under which nothing may have happened.
        live_minor: what the provider keeps of a payment now, or has held.
    """

    history: History
    live_minor: Callable[[str], int]
    sales: dict[str, PaymentBody] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    refunds: dict[str, RefundBody | None] = field(default_factory=dict)
    captures: dict[str, CaptureBody] = field(default_factory=dict)
    sold_at: dict[str, str] = field(default_factory=dict)
    above: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    heads: dict[int, str] = field(default_factory=dict)
    cash: CashBooks = field(default_factory=CashBooks)
    vouchers: VoucherBooks = field(default_factory=VoucherBooks)
    in_parts: dict[str, SaleAnswer] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    def name(self, key: str) -> str:
        """A short name for a key, for people: k1, k2, ..."""
        return self._names.setdefault(key, f"k{len(self._names) + 1}")

    def tell(self, till: str, told: Told) -> None:
        self.told.append(told)
        about = "" if told.key == told.payment else f" for {self.name(told.payment)}"
        self.history.add(till, f"hears {told.verb} {self.name(told.key)}{about}: {told.state} ({told.seq})")
        if told.state in {*FAILED, LOST} and (live := self.live_minor(told.payment)):
            self.violate("falsely failed", f"{self.name(told.payment)} is told {told.state} while {live} are charged")
        if told.state in OVER and (live := self.live_minor(told.payment)):
            self.violate("lost", f"{self.name(told.payment)} is told {told.state} while {live} are charged")

    def see_exposure(self, told: OfflineAnswer) -> None:
        """What a till was told that hangs on banks."""
        if told.terminal_minor > LIMITS.terminal_minor_max or told.box_minor > LIMITS.box_minor_max:
            self.violate("lost", f"more hangs on banks than the limits allow: {told}")

    def see_sale(self, told: SaleAnswer) -> None:
        """How a till was told that a sale in parts stands."""
        self.in_parts[told.key] = told
        is_even = told.closed == "yes" or told.paid_minor + told.remaining_minor == told.total_minor
        if told.paid_minor > told.total_minor or not is_even:
            self.violate("doubled", f"the sale {self.name(told.key)} is told to stand so: {told}")

    def see_head(self, size: int, root: str) -> None:
        if self.heads.setdefault(size, root) != root:
            self.violate("lost", f"two logs of {size} entries were signed")

    def violate(self, harm: Harm, what: str) -> None:
        self.violations.append(Violation(harm=harm, what=what))
        self.history.add("WRONG", f"{harm}: {what}")

"""The bodies of reconciliation's entries: a day beside a provider's statement, its breaks, and what was accepted.

As `entries.py`: what is written stays. Source: docs/formats/entry-kinds.md.
"""

from __future__ import annotations

from typing import Final

from appliance.wire.requests import Wire

RECONCILED: Final = "reconciled"
RECONCILED_MORE: Final = "reconciled_more"
BREAK_ACCEPTED: Final = "break_accepted"


class LineFacts(Wire, frozen=True, kw_only=True):
    """A provider's line, as far as a break needs it; amounts in minor units of `currency`.

    Attributes:
        converted: what the customer was asked for, in minor units of `converted_from`, where the provider converted it.
    """

    id: str
    day: str
    fee: int
    net: int
    kind: str
    gross: int
    origin: str | None = None
    currency: str
    converted: int | None = None
    operation: str | None = None
    reference: str | None = None
    created_ms: int
    available_ms: int
    converted_from: str | None = None


class BreakFacts(Wire, frozen=True, kw_only=True):
    """Something that differs. `subject` is the operation's id, or the provider's name of the line.

    Attributes:
        since: the day in which this subject first differed.
        expected: what the log says was moved; absent where it knows of nothing.
        line: what the provider says; absent where it lists nothing.
    """

    line: LineFacts | None = None
    type: str
    owner: str
    since: str
    payment: bytes | None = None
    subject: str
    currency: str | None = None
    expected: int | None = None


class ClosedFacts(Wire, frozen=True, kw_only=True):
    """A break that differs no more; `entry` is the one that opened it."""

    type: str
    entry: int
    since: str
    subject: str


class HereFacts(Wire, frozen=True, kw_only=True):
    """The day by the log: counts, and amounts in minor units."""

    charged: int = 0
    charges: int = 0
    refunds: int = 0
    refunded: int = 0


class ThereFacts(Wire, frozen=True, kw_only=True):
    """The day by the statement: `charges`, `refunds`, `disputes`, `others` and `foreign` are counts; net = gross - fee.

    `gross`, `fee` and `net` are card money; `payout` and `other` are sums of what is none. Lines in another currency
    than the shop's are only counted.
    """

    fee: int = 0
    net: int = 0
    gross: int = 0
    other: int = 0
    others: int = 0
    payout: int = 0
    charged: int = 0
    charges: int = 0
    foreign: int = 0
    refunds: int = 0
    disputed: int = 0
    disputes: int = 0
    refunded: int = 0


class DifferenceFacts(Wire, frozen=True, kw_only=True):
    """By how much the statement is above the log, for one reason."""

    why: str
    count: int
    amount: int


class ReconciledEntry(Wire, frozen=True, kw_only=True):
    """kind `reconciled`: the shop day beside a provider's statement.

    charged - refunded (here) + sum of differences = gross (there).

    Attributes:
        last: the newest entry of the log that was considered.
        more: so many entries `reconciled_more` follow in the same commit.
        digest: SHA-256 over the lines that were compared.
        number: how many times this day was looked at, from 1.
    """

    day: str
    here: HereFacts
    last: int
    more: int = 0
    there: ThereFacts
    closed: tuple[ClosedFacts, ...] = ()
    digest: bytes
    number: int
    opened: tuple[BreakFacts, ...] = ()
    ends_ms: int
    currency: str
    provider: str
    begins_ms: int
    open_count: int
    differences: tuple[DifferenceFacts, ...] = ()


class ReconciledMoreEntry(Wire, frozen=True, kw_only=True):
    """kind `reconciled_more`: further breaks of the `reconciled` entry before it."""

    day: str
    closed: tuple[ClosedFacts, ...] = ()
    opened: tuple[BreakFacts, ...] = ()
    provider: str


class BreakAcceptedEntry(Wire, frozen=True, kw_only=True):
    """kind `break_accepted`: the operator closes the break that `entry` opened for good; no money is moved by it."""

    type: str
    entry: int
    reason: str
    subject: str
    provider: str

"""Our movements beside a provider's lines: what fits, and what differs. Pure, and streams: both sides come in the order
of operations, and nothing is kept but the lines of one operation.

* Each operation moves money once. Its first line is it; every further one is doubled.
* What fits adds nothing; what differs says by how much the statement of the day is above our record of it, so that

      recorded + sum of differences = gross of the statement

  holds for every input, whatever was planted in it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Final

from appliance.model.ids import OperationId
from appliance.model.money import Money
from appliance.model.reconciling import LATE_DAYS, BreakType, FeeRule, Move, Owner
from appliance.ports.statement import Line, LineKind

ELSEWHERE: Final = "elsewhere"
OTHER_DAY: Final = "other_day"
CONVERTED: Final = "converted"
"""The account is settled in another currency: what the customer was asked for fits, and has no place in our sums."""
CARD_MONEY: Final = frozenset({LineKind.CHARGE, LineKind.REFUND, LineKind.REFUND_FAILED, LineKind.DISPUTE})
"""Lines that a shop's sales explain; payouts and a provider's own bookings are only counted."""


class Standing(StrEnum):
    """What the log knows of the operation behind a line."""

    CONFIRMED = "confirmed"
    CHECKED = "checked"  # no end yet, or one that lies in a later day
    NEVER = "never"  # the log says that it moved nothing
    OTHER = "other"  # confirmed, under another of the provider's names
    ELSEWHERE = "elsewhere"  # another log's
    NONE = "none"  # nobody's


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A line with the operation that it belongs to.

    Attributes:
        day: the shop day in which the provider booked it.
    """

    line: Line
    operation: OperationId | None
    standing: Standing
    day: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that differs, or a share of the difference that is none (`type` is None then).

    Attributes:
        subject: the operation, or the line where no operation is meant.
        difference_minor: by how much the day's statement is above our record because of it, in the shop's currency.
    """

    type: BreakType | None
    subject: str
    owner: Owner
    move: Move | None
    claim: Claim | None
    difference_minor: int
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the comparison needs to know of the shop, and which day it is about."""

    day: str
    currency: str
    fee: FeeRule


def compare(moves: Iterable[Move], claims: Iterable[Claim], rules: Rules) -> Iterator[Finding]:
    """Every difference of a day.

    Args:
        moves: in the order of `operation`, each once.
        claims: in the order of `operation` (None first), then of time; card money only.
    """
    groups = groupby(claims, key=lambda claim: claim.operation or OperationId(""))
    waiting = iter(moves)
    move = next(waiting, None)
    for operation, group in groups:
        while move is not None and move.operation < operation:
            yield _absent(move, rules)
            move = next(waiting, None)
        if move is not None and move.operation == operation:
            yield from _both(move, group, rules)
            move = next(waiting, None)
        else:
            for claim in group:
                yield _alone(claim, rules)
    while move is not None:
        yield _absent(move, rules)
        move = next(waiting, None)


def age_days(since: str, day: str) -> int:
    """From one shop day to another."""
    return (datetime.date.fromisoformat(day) - datetime.date.fromisoformat(since)).days


def _both(move: Move, claims: Iterable[Claim], rules: Rules) -> Iterator[Finding]:
    first: Claim | None = None
    for claim in claims:
        if first is None and claim.standing is Standing.CONFIRMED:
            first = claim
            yield from _fits(move, claim, rules)
        else:
            yield _doubled(claim, rules)
    if first is None:
        yield _absent(move, rules)


def _fits(move: Move, claim: Claim, rules: Rules) -> Iterator[Finding]:
    line, subject = claim.line, str(move.operation)
    asked = line.converted_from or Money(line.gross_minor, line.currency)
    difference = _there(claim, rules) - _here(move, rules)

    def found(kind: BreakType | None, owner: Owner, share: int, why: str = "") -> Finding:
        return Finding(type=kind, subject=subject, owner=owner, move=move, claim=claim, difference_minor=share, why=why)

    if asked.currency != move.currency:
        yield found(BreakType.CURRENCY, Owner.SHOP, difference)
        return
    if asked.amount_minor != move.amount_minor:
        yield found(BreakType.AMOUNT, Owner.PROVIDER, difference)
    elif difference:
        yield found(None, Owner.PROVIDER, difference, CONVERTED if line.converted_from else OTHER_DAY)
    # The most that a provider may keep is an amount of the shop's currency.
    is_allowed = line.converted_from is not None or rules.fee.allows(line.gross_minor, line.fee_minor)
    if line.net_minor != line.gross_minor - line.fee_minor or not is_allowed:
        yield found(BreakType.FEE, Owner.PROVIDER, 0)


def _absent(move: Move, rules: Rules) -> Finding:
    is_late = age_days(move.day, rules.day) < LATE_DAYS
    return Finding(
        type=BreakType.LATE if is_late else BreakType.MISSING_THERE,
        subject=str(move.operation),
        owner=Owner.PROVIDER,
        move=move,
        claim=None,
        difference_minor=-_here(move, rules),
    )


def _alone(claim: Claim, rules: Rules) -> Finding:
    """A line that none of the day's movements explains."""
    match claim.standing:
        case Standing.ELSEWHERE:
            return _of_line(None, Owner.SHOP, claim, rules, ELSEWHERE)
        case Standing.CONFIRMED | Standing.OTHER:
            return _doubled(claim, rules)  # its own line was seen before, or bears another name
        case Standing.CHECKED if age_days(claim.day, rules.day) < LATE_DAYS:
            return _of_line(BreakType.LATE, Owner.PROVIDER, claim, rules)
        case Standing.CHECKED | Standing.NEVER:
            return _of_line(BreakType.MISSING_HERE, Owner.VENDOR, claim, rules)
        case Standing.NONE:
            return _of_line(BreakType.MISSING_HERE, Owner.SHOP, claim, rules)


def _doubled(claim: Claim, rules: Rules) -> Finding:
    return _of_line(BreakType.DOUBLED, Owner.SHOP, claim, rules)


def _of_line(kind: BreakType | None, owner: Owner, claim: Claim, rules: Rules, why: str = "") -> Finding:
    return Finding(
        type=kind,
        subject=claim.line.line_id,
        owner=owner,
        move=None,
        claim=claim,
        difference_minor=_there(claim, rules),
        why=why,
    )


def _there(claim: Claim, rules: Rules) -> int:
    """What the line adds to the statement of the day."""
    is_counted = claim.day == rules.day and claim.line.currency == rules.currency
    return claim.line.gross_minor if is_counted else 0


def _here(move: Move, rules: Rules) -> int:
    """What the movement adds to our record of the day."""
    return move.amount_minor if move.day == rules.day else 0

"""Whatever a log and a statement hold, and whatever is planted in them: exactly that is found, and the sums add up."""

from __future__ import annotations

import hashlib
import random
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.crypto import cbor
from appliance.model.ids import OperationId, ProviderReference
from appliance.model.money import Money
from appliance.model.reconciling import FeeRule, Move
from appliance.payment.comparison import ComparisonSheet
from appliance.payment.matching import Rules, Standing
from appliance.payment.reconcile_records import line_facts
from appliance.ports.statement import Line, LineId, LineKind

DAY, BEFORE, LONG_AGO = "2026-10-24", "2026-10-23", "2026-10-20"
RULES = Rules(day=DAY, currency="EUR", fee=FeeRule(basis_points_max=300, fixed_minor_max=50))

Planted = Literal[
    "none",
    "gone",
    "gone_long_ago",
    "amount",
    "currency",
    "converted",
    "converted_amount",
    "fee",
    "net",
    "doubled",
    "tripled",
    "came_late",
    "came_early",
]
Alone = Literal["nobody", "elsewhere", "never", "checked", "checked_long_ago", "again", "disputed", "payout", "yen"]

PLANTS = st.lists(st.tuples(st.sampled_from(get_args(Planted)), st.booleans(), st.integers(1, 10**6)), max_size=12)
ALONE = st.lists(st.tuples(st.sampled_from(get_args(Alone)), st.integers(1, 10**6)), max_size=8)


def settled_in_yen(amount: int) -> dict[str, object]:
    """The provider converted what the customer was asked for."""
    settled = 160 * amount
    rest = {"gross_minor": settled, "fee_minor": 9_000, "net_minor": settled - 9_000}
    return {"currency": "JPY", "converted_from": Money(amount, "EUR"), **rest}


@dataclass
class Books:
    """Both sides, and what was planted."""

    moves: list[Move] = field(default_factory=list)
    lines: list[tuple[Line, str, OperationId | None, Standing]] = field(default_factory=list)
    planted: set[tuple[str, str]] = field(default_factory=set)

    def line(self, gross: int, operation: OperationId | None, **changed: object) -> Line:
        number = len(self.lines)
        fee = gross // 100 if gross > 0 else 0
        line = Line(
            line_id=LineId(f"line-{number}"),
            kind=LineKind.CHARGE if gross > 0 else LineKind.REFUND,
            reference=ProviderReference(f"ref-{operation}"),
            log_origin="here",
            operation_id=operation,
            gross_minor=gross,
            fee_minor=fee,
            net_minor=gross - fee,
            currency="EUR",
            created_ms=number,
            available_ms=number,
        )
        return replace(line, **changed)  # type: ignore[arg-type]  # names of fields, as a test gives them

    def book(self, line: Line, day: str, operation: OperationId | None, standing: Standing) -> None:
        self.lines.append((line, day, operation, standing))

    def operation(self, planted: Planted, amount: int) -> None:
        operation = OperationId(f"op-{len(self.moves):03d}")
        move_day, line_day, copies = DAY, DAY, 1
        changed: dict[str, object] = {}
        match planted:
            case "gone":
                copies = 0
                self.planted.add(("late", operation))
            case "gone_long_ago":
                copies, move_day = 0, LONG_AGO
                self.planted.add(("missing_there", operation))
            case "amount":
                changed = {"gross_minor": amount + 3, "fee_minor": 0, "net_minor": amount + 3}
                self.planted.add(("amount", operation))
            case "currency":
                changed = {"currency": "USD"}
                self.planted.add(("currency", operation))
            case "converted":
                changed = settled_in_yen(amount)
            case "converted_amount":
                changed = settled_in_yen(amount + 3)
                self.planted.add(("amount", operation))
            case "fee":
                changed = {"fee_minor": abs(amount) + 51, "net_minor": amount - abs(amount) - 51}
                self.planted.add(("fee", operation))
            case "net":
                changed = {"net_minor": amount + 1}
                self.planted.add(("fee", operation))
            case "doubled" | "tripled":
                copies = 2 if planted == "doubled" else 3
            case "came_late":
                move_day = BEFORE
            case "came_early":
                line_day = BEFORE
            case "none":
                pass
        self.moves.append(
            Move(operation=operation, payment=bytes(16), amount_minor=amount, currency="EUR", day=move_day)
        )
        for copy in range(copies):
            line = self.line(amount, operation, **changed)
            self.book(line, line_day, operation, Standing.CONFIRMED)
            if copy:
                self.planted.add(("doubled", line.line_id))

    def alone(self, what: Alone, amount: int) -> None:
        standing, day, kind = Standing.NONE, DAY, LineKind.CHARGE
        found: str | None = "missing_here"
        changed: dict[str, object] = {}
        match what:
            case "elsewhere":
                standing, found = Standing.ELSEWHERE, None
            case "never":
                standing = Standing.NEVER
            case "checked":
                standing, found = Standing.CHECKED, "late"
            case "checked_long_ago":
                standing, day = Standing.CHECKED, LONG_AGO
            case "again":
                standing, found = Standing.OTHER, "doubled"
            case "disputed":
                kind, amount = LineKind.DISPUTE, -amount
            case "payout":
                kind, found = LineKind.PAYOUT, None
            case "yen":
                changed = {"currency": "JPY"}
            case "nobody":
                pass
        line = self.line(amount, None, kind=kind, **changed)
        self.book(line, day, None, standing)
        if found is not None:
            self.planted.add((found, line.line_id))


@settings(max_examples=200, deadline=None)
@given(PLANTS, ALONE, st.randoms(use_true_random=False))
def test_exactly_what_was_planted_is_found_and_the_sums_add_up(
    plants: list[tuple[Planted, bool, int]], alone: list[tuple[Alone, int]], chance: random.Random
) -> None:
    books = Books()
    for planted, is_refund, amount in plants:
        books.operation(planted, -amount - 3 if is_refund else amount)
    for what, amount in alone:
        books.alone(what, amount)
    order = list(books.lines)
    chance.shuffle(order)
    with closing(ComparisonSheet()) as sheet:
        sheet.add_lines(order)
        sheet.add_lines(order[:3])  # a page that is read twice changes nothing
        sheet.add_moves(books.moves)
        found = sheet.compare(RULES, {}, frozenset())

    assert {(each.type, each.subject) for each in found.breaks.values()} == books.planted
    in_order = sorted(books.lines, key=lambda line: (line[2] or "", line[0].created_ms, line[0].line_id))
    compared = b"".join(cbor.encode(msgspec.to_builtins(line_facts(line, day))) for line, day, _, _ in in_order)
    assert found.digest == hashlib.sha256(compared).digest()
    of_day = [line for line, day, _, _ in books.lines if day == DAY and line.currency == "EUR"]
    gross = sum(line.gross_minor for line in of_day if line.kind is not LineKind.PAYOUT)
    recorded = sum(move.amount_minor for move in books.moves if move.day == DAY)
    assert (found.here.charged - found.here.refunded, found.there.gross) == (recorded, gross)
    assert recorded + sum(each.amount for each in found.differences) == gross
    assert found.there.net == sum(line.net_minor for line in of_day if line.kind is not LineKind.PAYOUT)

"""Tills that sell, refund, reverse and send batches to a box that keeps dying. Holds no test.

A till never makes a new key for an old question: what has no final answer yet is kept and asked again.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey, request_key
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import BatchBody, BatchItem, PaymentBody, TenderBody, VoucherBody
from provisioning.terminal.client import TerminalClient
from tests.crash.invariants import AFTER, FINAL, Told

PATIENCE_MS = 250
OPEN_MAX = 40
BATCH_SALES = 5
VOUCHER = 5_000
HONEST_REFUSALS = frozenset(
    {
        "already_undone",  # the other till was faster
        "payment_open",  # a refund of what is being checked
        "refund_above_left",
        "payment_not_captured",  # a refund of what is only held
        "payment_not_held",
        "payment_of_another_terminal",  # a capture by the till that did not sell
        "payment_took_no_money",
        "payment_complete",  # an abort of what is approved
        "payment_cancelled",  # a payment that was reversed before it came
        "payment_unknown",  # a refund of what never came
        "voucher_short",  # others spent of it
        "voucher_spent",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Something asked under one key, until it is answered."""

    key: RequestKey
    of: RequestKey
    verb: str
    ask: Callable[[], Awaitable[PaymentAnswer]]


@dataclass(kw_only=True)
class Books:
    """What both tills know together.

    Attributes:
        told: final answers that were believed.
        refused: keys under which nothing may have happened.
        payments: keys of payments that were asked for, whatever became of them.
        codes: of vouchers, by the key under which each was issued.
    """

    told: list[Told] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    payments: list[str] = field(default_factory=list)
    codes: dict[RequestKey, str] = field(default_factory=dict)


class Seller:
    """One till."""

    def __init__(
        self, client: TerminalClient, books: Books, randomness: random.Random, *, patience_ms: int = PATIENCE_MS
    ) -> None:
        self._client = client
        self._patience_ms = patience_ms
        self._books = books
        self._random = randomness
        self._open: list[Question] = []
        self._batches: list[tuple[RequestKey, BatchBody]] = []
        self._issues: list[RequestKey] = []
        self.is_over = False

    async def run(self) -> None:
        """Sell until it is over, then until nothing is open."""
        while not self.is_over or self._open or self._batches or self._issues:
            if self._open and (self.is_over or len(self._open) >= OPEN_MAX or self._random.random() < 0.3):
                await self._put(self._open.pop(0))
            elif self._batches:
                await self._send(*self._batches.pop())
            elif self._issues:
                await self._issue(self._issues.pop())
            elif not self.is_over:
                await self._begin()

    async def _begin(self) -> None:
        match self._random.choices(
            (
                "cash",
                "card",
                "later",
                "voucher",
                "mixed",
                "issue",
                "capture",
                "refund",
                "reversal",
                "abort",
                "batch",
                "look",
            ),
            (25, 30, 12, 8, 8, 4, 12, 14, 12, 6, 5, 10),
        ):
            case ["cash" | "card" | "later" as tender]:
                await self._put(self._sale(tender))
            case ["voucher" | "mixed" as tender]:
                if self._books.codes:
                    await self._put(self._sale(tender))
            case ["issue"]:
                await self._issue(self._client.new_key())
            case ["batch"]:
                items = tuple(
                    BatchItem(key=str(self._client.new_key()), payment=sale("cash", 100)) for _ in range(BATCH_SALES)
                )
                await self._send(self._client.new_key(), BatchBody(items=items))
            case ["look"]:
                await self._look_back()
            case other:
                await self._put(self._undo(other[0]))

    def _sale(self, tender: str) -> Question:
        key = self._client.new_key()
        source = (
            self._random.choices((None, "pm_card_visa_chargeDeclined"), (9, 1))[0]
            if tender not in ("cash", "voucher")
            else None
        )
        amount = self._random.randint(100, 9_999)
        if tender in ("voucher", "mixed"):
            code = self._random.choice(list(self._books.codes.values())[-3:])
            body = voucher_sale(code, amount // 10, amount if tender == "mixed" else 0, source)
        else:
            body = sale(tender, amount, source)
        self._books.payments.append(str(key))

        async def ask() -> PaymentAnswer:
            return await self._client.payment(body, key=key, deadline=self._client.deadline(self._patience_ms))

        return Question(key=key, of=key, verb="payment", ask=ask)

    def _undo(self, verb: str) -> Question:
        key = self._client.new_key()
        recent = self._books.payments[-40:]
        is_unknown = not recent or (verb in ("reversal", "abort") and self._random.random() < 0.2)
        of = self._client.new_key() if is_unknown else request_key(self._random.choice(recent))
        part = self._random.choice((None, 40, 90))

        async def ask() -> PaymentAnswer:
            deadline = self._client.deadline(self._patience_ms)
            match verb:
                case "refund":
                    return await self._client.refund(of, key=key, amount_minor=part, deadline=deadline)
                case "capture":
                    return await self._client.capture(of, key=key, deadline=deadline)
                case "reversal":
                    return await self._client.reversal(of, key=key, deadline=deadline)
                case _:
                    return await self._client.abort(of, key=key, deadline=deadline)

        return Question(key=key, of=of, verb=verb, ask=ask)

    async def _put(self, question: Question) -> None:
        try:
            answer = await question.ask()
        except (Unavailable, OutcomeUnknown):
            self._open.append(question)
            return
        except Rejected as refusal:
            if refusal.code not in HONEST_REFUSALS:
                raise
            self._books.refused.add(str(question.key))
            return
        if answer.state not in FINAL or answer.receipt is None:
            self._open.append(question)
            return
        if question.verb in ("reversal", "abort"):
            assert answer.state not in ("approved", "authorised"), f"{question} left the payment standing"
        self._books.told.append(Told(key=str(question.key), payment=str(question.of), state=answer.state))

    async def _send(self, key: RequestKey, body: BatchBody) -> None:
        try:
            answer = await self._client.batch(body, key=key, deadline=self._client.deadline(self._patience_ms))
        except (Unavailable, OutcomeUnknown):
            self._batches.append((key, body))
            return
        assert {result.state for result in answer.results} <= {"approved"}, answer
        for item in body.items:
            self._books.payments.append(item.key)
            self._books.told.append(Told(key=item.key, payment=item.key, state="approved"))

    async def _issue(self, key: RequestKey) -> None:
        body = VoucherBody(act="issue", amount_minor=VOUCHER, reason="a campaign")
        try:
            answer = await self._client.voucher(body, key=key, deadline=self._client.deadline(self._patience_ms))
        except (Unavailable, OutcomeUnknown):
            self._issues.append(key)
            return
        assert answer.code is not None
        assert self._books.codes.setdefault(key, answer.code) == answer.code, "one key, one code"

    async def _look_back(self) -> None:
        """What was final stays so."""
        if not self._books.told:
            return
        told = self._random.choice(self._books.told)
        try:
            answer = await self._client.status(
                request_key(told.payment), deadline=self._client.deadline(self._patience_ms)
            )
        except (Unavailable, OutcomeUnknown):
            return
        assert answer.state in AFTER[told.state], f"told {told}, and now it is {answer.state}"


def sale(tender: str, amount_minor: int, source: str | None = None) -> PaymentBody:
    kind = TenderBody(kind="cash" if tender == "cash" else "card", amount_minor=amount_minor, source=source)
    capture: Literal["at_once", "later"] = "later" if tender == "later" else "at_once"
    return PaymentBody(currency="EUR", tenders=(kind,), amount_minor=amount_minor, capture=capture)


def voucher_sale(code: str, amount_minor: int, card_minor: int, source: str | None) -> PaymentBody:
    """By voucher, and beside it by card where `card_minor` says so."""
    tenders = [TenderBody(kind="voucher", amount_minor=amount_minor, source=code)]
    if card_minor:
        tenders.append(TenderBody(kind="card", amount_minor=card_minor, source=source))
    return PaymentBody(currency="EUR", tenders=tuple(tenders), amount_minor=amount_minor + card_minor)

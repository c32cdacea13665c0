"""A till of a world: the real client over the world's link, and a person who keeps at it.

Owns what a till remembers over its own restarts: its questions that have no final answer yet, and what its client
learnt. Must never make a new key for an old question.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from typing_extensions import override

from appliance.crypto.signing_key import TerminalKey
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey, request_key
from appliance.model.payment import PaymentState
from appliance.wire.answers import BatchAnswer, DrawerAnswer, PaymentAnswer, ReportAnswer, VoucherAnswer
from appliance.wire.requests import BatchBody, CaptureBody, DrawerBody, PaymentBody, RefundBody, ReportBody, VoucherBody
from provisioning.terminal.client import TerminalClient
from provisioning.terminal.home import Memory, Profile, TerminalHome
from provisioning.terminal.memory import TerminalMemory
from provisioning.terminal.receipts import NotBelieved, ReceiptVerifier, VerifiedReceipt
from tests.world.books import Books, Told, card_of, total_of
from tests.world.link import Lan, WorldLink
from tests.world.loop import Machine, WorldClock, WorldLoop
from tests.world.refusals import AGES, HONEST_REFUSALS, NOT_NOW, STANDS

FINAL: Final = frozenset(PaymentState) - {PaymentState.CHECKING}
PATIENCE_MS: Final = (300, 1_500, 4_000)
ASK_AGAIN_S: Final = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Something asked under one key until it is answered; `of` is the payment that it is about."""

    key: RequestKey
    of: RequestKey
    verb: str
    body: PaymentBody | RefundBody | CaptureBody | BatchBody | DrawerBody | ReportBody | VoucherBody | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pocket(TerminalHome):
    """Satisfies what the client's memory asks of a folder; outlives the till's process."""

    kept: list[Memory] = field(default_factory=list)

    @override
    def keep_memory(self, memory: Memory) -> None:
        self.kept[:] = [memory]

    @override
    def memory(self) -> Memory:
        return self.kept[0] if self.kept else Memory()


class Witnessed:
    """Satisfies `ReceiptVerifier`: the real one, and each head it proved goes into the books."""

    def __init__(self, inner: ReceiptVerifier, books: Books) -> None:
        self._inner = inner
        self._books = books

    def verify(self, receipt: bytes) -> VerifiedReceipt:
        verified = self._inner.verify(receipt)
        self._books.see_head(verified.head.size, verified.head.root)
        return verified


@dataclass(kw_only=True, eq=False)
class Till:
    """One till over all its restarts."""

    name: str
    profile: Profile
    key: TerminalKey
    pocket: Pocket
    clock: WorldClock
    lan: Lan
    loop: WorldLoop
    books: Books
    verifier: ReceiptVerifier
    randomness: random.Random
    on_show: Callable[[str], None]
    open: dict[str, Question] = field(default_factory=dict)

    def start(self) -> None:
        """Begin, or begin again with what was remembered."""
        self.machine = Machine(name=self.name)
        self._busy: set[str] = set()
        self.client = TerminalClient(
            profile=self.profile,
            key=self.key,
            link=WorldLink(self.lan),
            memory=TerminalMemory(home=self.pocket, memory=self.pocket.memory()),
            verifier=Witnessed(self.verifier, self.books),
            clock=self.clock,
            random=self.randomness.randbytes,
        )
        self.loop.spawn(self.machine, self._keep_asking(), self.name)

    def restart(self) -> None:
        """The plug is pulled and put back."""
        self.books.history.add(self.name, f"restarts, {len(self.open)} questions open")
        self.machine.is_alive = False
        self.start()

    def new_key(self) -> RequestKey:
        return self.client.new_key()

    def ask(self, question: Question, patience_ms: int | None = None) -> None:
        """Remember the question, then ask it for the first time."""
        self.open[str(question.key)] = question
        books = self.books
        books.asked.add(str(question.key))
        if question.verb == "payment" and isinstance(question.body, PaymentBody):
            books.sales[str(question.key)] = question.body
            books.sold_at[str(question.key)] = self.name
        if isinstance(question.body, BatchBody):
            books.sales.update({item.key: item.payment for item in question.body.items})
            books.sold_at.update({item.key: self.name for item in question.body.items})
        if isinstance(question.body, DrawerBody):
            books.cash.acts[str(question.key)] = question.body
        if question.verb in ("refund", "reversal", "abort"):
            books.undone.add(str(question.of))
        if question.verb == "refund":
            books.refunds[str(question.key)] = question.body if isinstance(question.body, RefundBody) else None
        if isinstance(question.body, CaptureBody):
            books.captures[str(question.key)] = question.body
        about = "" if question.of == question.key else f" of {books.name(str(question.of))}"
        if isinstance(question.body, PaymentBody) and question.body.retry_of:
            about = f" in place of {', '.join(map(books.name, question.body.retry_of))}"
        books.history.add(self.name, f"asks {question.verb} {books.name(str(question.key))}{about}{_what(question)}")
        self.spawn(question, patience_ms)

    def spawn(self, question: Question, patience_ms: int | None = None) -> None:
        """Ask (again) beside whatever else this till does."""
        patience_ms = self.randomness.choice(PATIENCE_MS) if patience_ms is None else patience_ms
        self.loop.spawn(self.machine, self._put(question, patience_ms), f"{self.name} {question.verb}")

    async def look(self, of: str) -> None:
        """Ask how a payment stands."""
        # Before the question left: an answer to somebody else may overtake it.
        is_told = any(told.payment == of for told in self.books.told)
        try:
            answer = await self.client.status(request_key(of), deadline=self.client.deadline(3_000))
        except NotBelieved as contradiction:
            self.books.violate("lost", f"status of {self.books.name(of)}: {contradiction}")
        except (Unavailable, OutcomeUnknown):
            return
        except Rejected as refusal:
            if refusal.code != "payment_unknown" or is_told:
                self.books.violate("lost", f"status of {self.books.name(of)}: {refusal}")
        else:
            if answer.state in FINAL and answer.receipt is not None:
                self._hear(
                    Told(
                        key=of,
                        payment=of,
                        verb="status",
                        state=answer.state,
                        seq=answer.seq,
                        refunded_minor=answer.refunded_minor,
                    )
                )

    async def read(self, body: ReportBody) -> None:
        """Ask what a period came to so far."""
        try:
            answer = await self.client.report(body, key=self.client.new_key(), deadline=self.client.deadline(3_000))
        except NotBelieved as contradiction:
            self.books.violate("lost", f"X of {body.scope}: {contradiction}")
        except (Unavailable, OutcomeUnknown):
            return
        except Rejected as refusal:
            if refusal.code not in AGES:
                self.books.violate("lost", f"X of {body.scope}: {refusal}")
        else:
            self.books.cash.read.append(answer.period)

    async def tamper(self, key: RequestKey, body: PaymentBody) -> None:
        """Send another sale under a key that was answered: the box must refuse it."""
        try:
            answer = await self.client.payment(body, key=key, deadline=self.client.deadline(3_000))
        except (Unavailable, OutcomeUnknown):
            return
        except Rejected as refusal:
            if refusal.code in ("key_reused", "payment_cancelled"):
                return
            self.books.violate("lost", f"another sale under {self.books.name(str(key))}: {refusal}")
        else:
            self.books.violate(
                "lost", f"another sale under {self.books.name(str(key))} was told {answer.state}, and is not in the log"
            )

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(ASK_AGAIN_S * self.randomness.uniform(0.5, 1.5))
            for question in list(self.open.values()):
                await self._put(question, 1_500)

    async def _put(self, question: Question, patience_ms: int) -> None:
        key = str(question.key)
        if key in self._busy:
            return
        self._busy.add(key)
        try:
            match question.body:
                case BatchBody():
                    self._hear_batch(question, await self._send_batch(question, patience_ms))
                case DrawerBody() as body:
                    deadline = self.client.deadline(patience_ms)
                    self._hear_act(question, await self.client.drawer(body, key=question.key, deadline=deadline))
                case VoucherBody() as body:
                    deadline = self.client.deadline(patience_ms)
                    self._hear_voucher(question, await self.client.voucher(body, key=question.key, deadline=deadline))
                case ReportBody() as body:
                    deadline = self.client.deadline(patience_ms)
                    self._hear_report(question, await self.client.report(body, key=question.key, deadline=deadline))
                case _:
                    self._hear_answer(question, await self._send(question, patience_ms))
        except NotBelieved as contradiction:
            self.books.violate("lost", f"{question.verb} {self.books.name(key)}: {contradiction}")
            self.open.pop(key, None)
        except (Unavailable, OutcomeUnknown) as unclear:
            self.books.history.add(self.name, f"hears {question.verb} {self.books.name(key)}: {unclear.code}")
        except Rejected as refusal:
            self._hear_refusal(question, refusal)
        finally:
            self._busy.discard(key)

    async def _send(self, question: Question, patience_ms: int) -> PaymentAnswer:
        client, deadline = self.client, self.client.deadline(patience_ms)
        match question.verb:
            case "payment":
                assert isinstance(question.body, PaymentBody)
                return await client.payment(question.body, key=question.key, deadline=deadline)
            case "refund":
                assert question.body is None or isinstance(question.body, RefundBody)
                part = question.body or RefundBody(of=str(question.of))
                return await client.refund(
                    question.of, key=question.key, amount_minor=part.amount_minor, lines=part.lines, deadline=deadline
                )
            case "capture":
                assert isinstance(question.body, CaptureBody)
                amount = question.body.amount_minor
                return await client.capture(question.of, key=question.key, amount_minor=amount, deadline=deadline)
            case "reversal":
                return await client.reversal(question.of, key=question.key, deadline=deadline)
            case _:
                return await client.abort(question.of, key=question.key, deadline=deadline)

    async def _send_batch(self, question: Question, patience_ms: int) -> BatchAnswer:
        assert isinstance(question.body, BatchBody)
        return await self.client.batch(question.body, key=question.key, deadline=self.client.deadline(patience_ms))

    def _hear_answer(self, question: Question, answer: PaymentAnswer) -> None:
        key = str(question.key)
        if answer.offline is not None:
            self.books.see_exposure(answer.offline)
        if answer.sale is not None:
            self.books.see_sale(answer.sale)
        if question.verb == "payment":
            self.books.taken.add(key)
            if answer.show is not None:
                self.on_show(answer.show)
        if answer.state not in FINAL or answer.receipt is None:
            self.books.history.add(
                self.name, f"hears {question.verb} {self.books.name(key)}: {answer.state}, not final"
            )
            return
        self.open.pop(key, None)
        told = Told(
            key=key,
            payment=str(question.of),
            verb=question.verb,
            state=answer.state,
            seq=answer.seq,
            given_minor=answer.given_minor,
            refunded_minor=answer.refunded_minor,
        )
        self._hear(told)
        if answer.state in STANDS.get(question.verb, ()):
            self.books.violate("lost", f"after {question.verb} {self.books.name(key)} the payment still stands")

    def _hear_batch(self, question: Question, answer: BatchAnswer) -> None:
        if answer.pending:
            return
        self.open.pop(str(question.key), None)
        for result in answer.results:
            if result.state in FINAL and result.seq is not None:
                self._hear(Told(key=result.key, payment=result.key, verb="batch", state=result.state, seq=result.seq))
            elif result.code not in HONEST_REFUSALS["payment"]:
                self.books.violate("lost", f"stored sale {self.books.name(result.key)}: {result.state} {result.code}")

    def _hear_act(self, question: Question, answer: DrawerAnswer) -> None:
        if answer.pending:
            return
        key = str(question.key)
        self.open.pop(key, None)
        self.books.cash.done[key] = (answer.seq, answer.held_minor)
        self.books.history.add(
            self.name, f"hears drawer {self.books.name(key)}: {answer.drawer} holds {answer.held_minor} ({answer.seq})"
        )

    def _hear_voucher(self, question: Question, answer: VoucherAnswer) -> None:
        if answer.pending:
            return
        key = str(question.key)
        self.open.pop(key, None)
        self.books.vouchers.hear(key, answer)
        self.books.history.add(
            self.name, f"hears voucher {self.books.name(key)}: {answer.act}, {answer.left_minor} left"
        )

    def _hear_report(self, question: Question, answer: ReportAnswer) -> None:
        if answer.pending or answer.seq is None:
            return
        key, period = str(question.key), answer.period
        self.open.pop(key, None)
        self.books.cash.closed[answer.seq] = period
        self.books.history.add(
            self.name, f"hears report {self.books.name(key)}: {period.scope} {period.name} {period.number} is closed"
        )

    def _hear_refusal(self, question: Question, refusal: Rejected) -> None:
        key = str(question.key)
        self.open.pop(key, None)
        self.books.history.add(self.name, f"is refused {question.verb} {self.books.name(key)}: {refusal.code}")
        if refusal.code not in HONEST_REFUSALS[question.verb]:
            self.books.violate("lost", f"{question.verb} {self.books.name(key)} was refused: {refusal}")
        elif refusal.code not in NOT_NOW:
            self.books.refused.add(key)
        if refusal.code == "refund_above_left":
            self.books.above.add(key)
        if isinstance(question.body, CaptureBody) and _is_untrue(question.body, refusal.code, self):
            self.books.violate("lost", f"capture {self.books.name(key)} was refused: {refusal}")

    def _hear(self, told: Told) -> None:
        self.books.tell(self.name, told)


def _is_untrue(asked: CaptureBody, code: str, till: Till) -> bool:
    """Whether the sale itself says that a capture cannot have been refused for this."""
    sale, held = till.books.sales[asked.of], card_of(till.books.sales[asked.of])
    amount = held if asked.amount_minor is None else asked.amount_minor
    match code:
        case "capture_above_authorisation":
            return amount <= held
        case "capture_below_total":
            return amount >= total_of(sale)
        case "payment_of_another_terminal":
            return till.books.sold_at[asked.of] == till.name
        case _:
            return False


def _what(question: Question) -> str:
    if isinstance(question.body, BatchBody):
        return f": {len(question.body.items)} sales"
    if question.body is None:
        return ""
    if isinstance(question.body, RefundBody):
        pieces = ", ".join(f"{line.quantity_thousandths} of line {line.index}" for line in question.body.lines)
        return f": {pieces or question.body.amount_minor}"
    if isinstance(question.body, CaptureBody):
        return f": {question.body.amount_minor or 'all'}"
    if isinstance(question.body, DrawerBody):
        return f": {question.body.act} {question.body.amount_minor} {question.body.drawer or ''}"
    if isinstance(question.body, VoucherBody):
        return f": {question.body.act} {question.body.amount_minor}"
    if isinstance(question.body, ReportBody):
        return f": {question.body.kind} of {question.body.scope}"
    tenders = " + ".join(f"{tender.kind} {tender.amount_minor}" for tender in question.body.tenders)
    return f": {total_of(question.body)} by {tenders}"

"""Cards at PIN pads that speak ZVT: what is asked of which pad, and what its last payment proves.

A PIN pad has no idempotency key and no list: it knows its last payment. So a payment goes in two steps, each durable
before the next. First the pad's last payment is read and its name written down (the offer: it takes nothing, and nobody
is asked); then the card is asked for, after that name and no other. When the line or the box broke meanwhile, the last
payment is read again:

    the same one as before       nothing happened: `Absent`
    another one, of our amount   it is ours: `Found`
    anything else                somebody else was at the pad, or it was replaced: `Unknown`, until a person looks

What the log names after ours counts before what the pad says now: the next payment there began by reading, too, so that
reading is the witness, however many payments followed. Must never ask a pad twice for one payment, and never call a
payment failed because a line did.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from typing_extensions import override

from appliance.adapters.owner_thread import OwnerThread, SessionKind
from appliance.adapters.pin_pad_banks import BankWords
from appliance.adapters.pin_pad_line import BUSY, MOVED_ON, Away, Moved, PadLine, PadSettings
from appliance.adapters.pin_pad_name import PadPayment, parse
from appliance.adapters.pin_pad_reply import Moves, confirmed, found_back, found_payment, moved_answer
from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.model.ids import OperationId, ProviderKey, ProviderReference, TerminalId
from appliance.model.invariants import present
from appliance.model.limits import PROVIDER_DEADLINE_MS
from appliance.ports.clock import Clock
from appliance.ports.provider import (
    BANK_UNREACHABLE,
    Absent,
    AcceptedOffline,
    Answer,
    Authorise,
    Basis,
    Cancel,
    Capture,
    Confirmed,
    Declined,
    Forward,
    Forwards,
    Found,
    NotSent,
    Offer,
    Offered,
    Offers,
    Operation,
    Refund,
    Refused,
    Unknown,
)
from drivers.serial import pin_pad as driver

QUEUE_DEPTH_MAX: Final = 8
ASKED_MAX: Final = 256
_READ_MS: Final = PROVIDER_DEADLINE_MS - 1_000
_MARGIN_MS: Final = 2_000
_LOOK_MS: Final = 8_000
SILENT: Final = "pad_silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What the log holds of the next thing that was done at a pad. `mark`: what was read before it; None: nothing."""

    mark: ProviderReference | None


class PadLog(Protocol):
    """What the ledger knows of a pad."""

    async def before(self, pad: str, operation: OperationId) -> ProviderReference | None:
        """The newest name of a payment at `pad` that was written down for what was begun before `operation`."""
        ...

    async def after(self, pad: str, operation: OperationId) -> Later | None:
        """The first thing begun at `pad` after `operation`; None: nothing yet.

        An operation that this log does not know is a lost box's: it was begun before all that the log holds.
        """
        ...


class PinPadProvider(Forwards, Offers):
    """Satisfies `Forwards` and `Offers` on the PIN pads of a shop; one owner thread for each.

    Attributes:
        refusals: why a PIN pad could not be sold at when it was asked last.
        heard_ms: when each answered last, by the monotonic clock.
    """

    def __init__(
        self, *, pads: Sequence[PadSettings], bound: Mapping[TerminalId, str], currency: str, log: PadLog, clock: Clock
    ) -> None:
        self._settings = {each.name: each for each in pads}
        self._threads = {each.name: _thread(each) for each in pads}
        self._bound = dict(bound)
        self._currency = currency
        self._log = log
        self._clock = clock
        self.refusals: dict[str, str] = {}
        self.heard_ms: dict[str, int] = {}
        self._waiting: dict[ProviderKey, threading.Event] = {}
        self._asked: dict[ProviderKey, tuple[Operation, Answer]] = {}
        self._marks: dict[ProviderKey, PadPayment] = {}
        self._banks = BankWords()

    @property
    @override
    def customer_ms(self) -> int:
        return 0  # nobody has to agree: the card is asked for afterwards

    @override
    async def offer(self, operation: Offer) -> Offered | Refused | NotSent | Unknown:
        if operation.amount.currency != self._currency:
            return Refused(code="currency_unsupported", detail=f"the PIN pads take {self._currency}")
        pad = self._bound.get(operation.reference.terminal_id)
        if pad is None:
            return Refused(code="reader_not_bound", detail="the settings bind no PIN pad to this till")
        last = await self._read(pad)
        self.refusals.pop(pad, None)
        if isinstance(last, PadPayment) or last.reason == BUSY:
            self.heard_ms[pad] = self._clock.monotonic_ms()
        if isinstance(last, PadPayment):
            return Offered(provider_reference=last.reference, show=None)
        if last.reason == BUSY:
            return Refused(code="reader_busy", detail="somebody is at this PIN pad")
        self.refusals[pad] = last.reason
        return NotSent(reason=last.reason)

    @override
    async def await_customer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        return Confirmed(provider_reference=of, amount=operation.amount, confirmed_ms=self._clock.now_ms())

    @override
    async def look_at_offer(self, operation: Offer, of: ProviderReference) -> Confirmed | Declined | Unknown:
        # The box ended in between: asked now, the card of a customer who has gone would be asked for.
        return Declined(
            code="pad_not_asked", message="The PIN pad was not asked.", provider_reference=of, basis=Basis.OWN_LOG
        )

    @override
    async def authorise(self, operation: Authorise) -> Answer:
        mark = parse(operation.of)
        if operation.is_captured_later:
            return Refused(code="holds_nothing", detail="a PIN pad takes the money at once")
        if mark is None:
            return Refused(code="reference_malformed", detail="nothing was read at a PIN pad before")
        if operation.provider_key in self._asked:
            return self._answer_again(operation)
        amount_minor = operation.amount.amount_minor
        with self._customer(operation) as gone:
            answer = await self._move(
                operation, mark.pad, lambda line: line.pay(amount_minor, after=mark, gives_up=gone.is_set)
            )
            if isinstance(answer, AcceptedOffline):
                named = present(parse(answer.provider_reference), "the adapter reads its own names")
                self._banks.forget(named)
                if not operation.may_accept_offline:
                    answer = await self._undo_unasked(named)
        return self._remember(operation, answer)

    @override
    async def refund(self, operation: Refund) -> Answer:
        paid, amount_minor = parse(operation.of), operation.amount.amount_minor
        if paid is None or not paid.is_taken:
            return Refused(code="reference_malformed", detail="the payment's name is not one that a PIN pad gives")
        if paid.amount_minor is not None and amount_minor > paid.amount_minor:
            return Refused(code="amount_too_large", detail="more than was paid")
        if operation.provider_key in self._asked:
            return self._answer_again(operation)

        def mark(last: PadPayment) -> None:
            self._marks[operation.provider_key] = last

        with self._customer(operation) as gone:
            answer = await self._move(
                operation,
                paid.pad,
                lambda line: line.give_back(amount_minor, of=paid, on_mark=mark, gives_up=gone.is_set),
            )
        return self._remember(operation, answer)

    @override
    async def forward(self, operation: Forward) -> Answer:
        of = parse(operation.of)
        if of is None or of.pad not in self._threads:
            return NotSent(reason="pad_unknown")
        said = self._bank_said(operation, of)
        if said is not None:
            return said
        trouble = await self._hand_in(of)
        if trouble is not None:
            return trouble
        # A pad that handed in what it had and did not speak of this one sent it before, and nobody heard its bank.
        return self._bank_said(operation, of) or Unknown(reason="pad_said_nothing_of_it")

    @override
    async def cancel(self, operation: Cancel) -> Answer:
        of = parse(operation.of)
        if of is None or of.end != "offline":
            return Refused(code="holds_nothing", detail="only what a PIN pad accepted offline is forgotten")
        answer = await self._move(operation, of.pad, lambda line: line.undo(of))
        if isinstance(answer, Declined | Refused):
            return Refused(
                code="cannot_forget", detail="the PIN pad forgets its last payment only, until its bank asked"
            )
        return answer

    @override
    def patience_ms(self, operation: Operation) -> int:
        named = None if isinstance(operation, Capture) else parse(operation.of)
        settings = None if named is None else self._settings.get(named.pad)
        return PROVIDER_DEADLINE_MS if settings is None else int(settings.moving_s * 1_000) + _MARGIN_MS

    @override
    def give_up(self, provider_key: ProviderKey) -> None:
        # Perhaps he is not waited for yet: then his card is never asked for.
        self._waiting.setdefault(provider_key, threading.Event()).set()
        if len(self._waiting) > ASKED_MAX:
            del self._waiting[next(key for key, gone in self._waiting.items() if gone.is_set())]

    @override
    def hurry(self, reference: ProviderReference) -> bool:
        return False  # nobody rings for a PIN pad: its thread hears it at once

    @override
    async def find(
        self, operation: Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> Found | Absent | Unknown:
        now_ms = self._clock.now_ms()
        if isinstance(operation, Capture):
            return Unknown(reason="holds_nothing")
        of, named = parse(operation.of), parse(known)
        if of is None:
            return Unknown(reason="reference_malformed")
        if isinstance(operation, Forward):
            said = self._bank_said(operation, of)
            # Its own store keeps a pad from sending a payment twice: it may be asked again.
            return (
                Absent(as_of_ms=now_ms) if said is None else said if isinstance(said, Unknown) else Found(answer=said)
            )
        if named is not None and named.end == "paid":
            return Found(answer=confirmed(named, operation, now_ms))
        reading = await self._witness(of.pad, operation)
        if isinstance(reading, Unknown):
            return reading
        earlier = parse(await self._log.before(of.pad, operation.reference.operation_id))
        if isinstance(operation, Authorise):
            if of.is_none and earlier is not None and reading.is_same(earlier):
                return Unknown(reason=MOVED_ON)  # it had a last payment when it said that there was none
            return found_payment(operation, mark=of, reading=reading, now_ms=now_ms)
        fresh = self._marks.get(operation.provider_key)
        mark = fresh or earlier
        if mark is None:
            return Unknown(reason=MOVED_ON)
        return found_back(operation, paid=of, mark=mark, is_fresh=fresh is not None, reading=reading, now_ms=now_ms)

    @override
    async def close(self) -> None:
        for waiting in self._waiting.values():
            waiting.set()
        for thread in self._threads.values():
            await thread.close()

    async def answers(self, pad: str) -> bool:
        """Whether the pad answers at all; one that is busy with a customer does."""
        try:
            does_answer = await self._threads[pad].run(PadLine.answers, _LOOK_MS)
        except Unavailable:
            return self._threads[pad].hung_count == 0
        except OutcomeUnknown:
            return False
        if does_answer:
            self.heard_ms[pad] = self._clock.monotonic_ms()
            if self.refusals.get(pad) == SILENT:  # that a sale found it silent is over
                del self.refusals[pad]
        return does_answer

    async def _witness(self, pad: str, operation: Moves) -> PadPayment | Unknown:
        """What was read at the pad after `operation`, and before anything else was begun there."""
        later = await self._log.after(pad, operation.reference.operation_id)
        if later is not None:
            return parse(later.mark) or Unknown(reason=MOVED_ON)
        last = await self._read(pad)
        if isinstance(last, PadPayment):
            return last
        if last.reason == BUSY and not self._settings[pad].is_used_by_hand:
            # Its customer is one whom nobody waits for any more.
            with suppress(Unavailable, OutcomeUnknown):
                await self._threads[pad].run(PadLine.withdraw, _LOOK_MS)
        return Unknown(reason=last.reason)

    async def _read(self, pad: str) -> PadPayment | Away:
        return await self._run(pad, PadLine.read, _READ_MS) or Away(reason=SILENT)

    async def _move(self, operation: Moves, pad: str, ask: Callable[[PadLine], Moved]) -> Answer:
        moved = await self._run(pad, ask, self.patience_ms(operation) - _MARGIN_MS)
        if moved is None:
            return Unknown(reason="deadline_passed")
        waiting = self._waiting.get(operation.provider_key)
        is_given_up = waiting is not None and waiting.is_set()
        return moved_answer(operation, pad, moved, now_ms=self._clock.now_ms(), is_given_up=is_given_up)

    async def _run(self, pad: str, ask: Callable[[PadLine], _T], deadline_ms: int) -> _T | Away | None:
        """On the pad's own thread. None: it began, and nobody knows how it ended."""
        thread = self._threads.get(pad)
        if thread is None:
            return Away(reason="pad_unknown")
        try:
            return await thread.run(ask, deadline_ms)
        except Unavailable:
            return Away(reason=BUSY)
        except OutcomeUnknown:
            return None

    async def _undo_unasked(self, accepted: PadPayment) -> Answer:
        """The pad did without the bank although the shop does not want that now: it is undone at once."""
        undone = await self._run(accepted.pad, lambda line: line.undo(accepted), _READ_MS)
        if isinstance(undone, driver.Paid):
            return Declined(code=BANK_UNREACHABLE, message="The PIN pad cannot reach the card's bank.")
        return Unknown(reason="accepted_offline_unasked")

    async def _hand_in(self, of: PadPayment) -> NotSent | Unknown | None:
        """Have the pad ask the banks of all that it keeps, and remember what they said. None: it came to its end."""
        deadline_ms = int(self._settings[of.pad].moving_s * 1_000)
        sent = await self._run(of.pad, lambda line: line.hand_in(of), deadline_ms)
        if sent is None:
            return Unknown(reason="deadline_passed")
        if isinstance(sent, Away):
            return NotSent(reason=sent.reason)
        self._banks.hear(of.pad, sent.told)
        match sent.trouble:
            case None:
                return None
            case driver.Unknown():
                return Unknown(reason="connection_lost")
            case _:
                return NotSent(reason=BANK_UNREACHABLE)

    def _bank_said(self, operation: Forward, of: PadPayment) -> Confirmed | Declined | Unknown | None:
        return self._banks.said(operation, of, self._clock.now_ms())

    @contextmanager
    def _customer(self, operation: Authorise | Refund) -> Iterator[threading.Event]:
        """A customer who can be given up; whoever leaves the block waits for nobody any more."""
        gone = self._waiting.setdefault(operation.provider_key, threading.Event())
        try:
            yield gone
        finally:
            gone.set()
            self._waiting.pop(operation.provider_key, None)

    def _answer_again(self, operation: Operation) -> Answer:
        """A key is sent once; while this process lives, the same question under it gets the same answer."""
        question, answer = self._asked[operation.provider_key]
        return answer if question == operation else Unknown(reason="key_reused")

    def _remember(self, operation: Operation, answer: Answer) -> Answer:
        self._asked[operation.provider_key] = operation, answer
        while len(self._asked) > ASKED_MAX:
            self._marks.pop(next(iter(self._asked)), None)
            del self._asked[next(iter(self._asked))]
        return answer


_T = TypeVar("_T")


def _thread(settings: PadSettings) -> OwnerThread[PadLine]:
    return OwnerThread(
        kind=SessionKind(
            name=f"pin pad {settings.name}",
            open=lambda: PadLine(settings),
            close=PadLine.close,
            translate=lambda _: None,
            is_fatal=lambda _: True,
        ),
        queue_depth_max=QUEUE_DEPTH_MAX,
    )

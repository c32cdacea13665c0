"""A PIN pad on an open line: money moved once, its end as a value, and the last payment again.

Owns the order of a payment. Must never call a payment failed because the line did: from the first byte of a command
that moves money on only the PIN pad's own word ends it, everything else is `Unknown`.

* `Refused` is the PIN pad's no to the command itself; `Declined` its abort before any good result.
* A result that contradicts the question (another amount, another currency) or itself is `Unknown`.
* Every command has its end, also where the PIN pad talks on and on: `HEARD_MAX` messages, and twice the time of an
  answer after it was told to stop.
* To find out what became of it, ask `last_payment` and compare it with the last one known before. A PIN pad that is
  still busy with a customer refuses to tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from drivers.serial import zvt
from drivers.serial.errors import LineError, LineSilent, LineUnreadable
from drivers.serial.zvt import Apdu, PaymentStatus
from drivers.serial.zvt_link import ApduLink

_OK: Final = Apdu(control=zvt.ACCEPTED)
HEARD_MAX: Final = 4_096
"""States of payments and lines of slips that one command may bring."""
_STEP_S: Final = 0.05  # how soon a customer who is given up is noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """Status with a good result, and the completion behind it. `slip` is what the PIN pad wanted printed.

    Also of money that was given back, by a refund or a reversal.
    """

    status: PaymentStatus
    slip: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The PIN pad ended it without a payment; `result` is its code (chapter 8 of the ZVT text)."""

    result: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The command was not taken: nothing began."""

    error: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Nobody knows; `status` is what was heard before. `reason` is for people; `kind` tells what did not fit."""

    reason: str
    status: PaymentStatus | None
    kind: Literal["line", "result", "amount"] = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of payments that were approved offline: a status for each one that the PIN pad spoke of."""

    told: tuple[PaymentStatus, ...]
    trouble: Ending | None


Ending: TypeAlias = Paid | Declined | Refused | Unknown


def _never() -> bool:
    return False


class PinPad:
    """One PIN pad; `answer_s` bounds every answer but the customer's. `password` is six digits."""

    def __init__(self, link: ApduLink, *, password: str, answer_s: float = 5.0) -> None:
        self._link = link
        self._password = password
        self._answer_s = answer_s

    def register(self, currency: int, *, config: int = zvt.TILL_PRINTS) -> Ending | None:
        """Chapter 2.1; once after connecting, and again for another `config`. None when it went well."""
        ending = self._run(zvt.registration(self._password, currency, config=config), self._answer_s)
        return None if isinstance(ending, _Completed) else ending.ending

    def pay(
        self, amount_minor: int, currency: int, *, payment_s: float, gives_up: Callable[[], bool] = _never
    ) -> Ending:
        """Ask for a card and take the amount; the customer has `payment_s` seconds, and until `gives_up`."""
        command = zvt.authorisation(amount_minor, currency)
        return _moved(self._run(command, payment_s, gives_up), amount_minor, currency)

    def reverse(
        self, receipt: int, amount_minor: int, currency: int, *, payment_s: float, gives_up: Callable[[], bool] = _never
    ) -> Ending:
        """Undo the payment with this receipt, which took `amount_minor`; possible until the end of the PIN pad's day.

        Some PIN pads undo their last payment whatever the number says (Portalum.Zvt issue 24): ask for no other.
        """
        command = zvt.reversal(self._password, receipt)
        return _moved(self._run(command, payment_s, gives_up), amount_minor, currency)

    def refund(
        self, amount_minor: int, currency: int, *, payment_s: float, gives_up: Callable[[], bool] = _never
    ) -> Ending:
        """Give the amount to the card that the customer shows. The PIN pad compares it with no payment."""
        command = zvt.refund(self._password, amount_minor, currency)
        return _moved(self._run(command, payment_s, gives_up), amount_minor, currency)

    def last_payment(self, *, payment_s: float) -> PaymentStatus | Ending:
        """Status of the last payment, refund or reversal that the PIN pad keeps (06 20)."""
        run = self._run(zvt.with_password(zvt.REPEAT_RECEIPT, self._password), payment_s)
        if isinstance(run, _Completed):
            return run.status or Unknown(reason="completed without a status", status=None, kind="result")
        return run.ending

    def send_offline(self, *, payment_s: float) -> Sent:
        """Have everything that was approved offline sent to its bank (06 51).

        NOT VERIFIED that a status comes for each payment: where none comes, nothing is said of any.
        """
        run = self._run(zvt.with_password(zvt.SEND_OFFLINE, self._password), payment_s)
        return Sent(told=run.all, trouble=None if isinstance(run, _Completed) else run.ending)

    def end_day(self, *, payment_s: float) -> Ending | None:
        """Hand in the day's payments (06 50). Afterwards none is reversed, and the last one may be forgotten."""
        run = self._run(zvt.with_password(zvt.END_OF_DAY, self._password), payment_s)
        return None if isinstance(run, _Completed) else run.ending

    def abort(self) -> Ending | None:
        """Send away a customer whom nobody waits for any more (chapter 2.21)."""
        run = self._run(Apdu(control=zvt.ABORT_BY_TILL), 2 * self._answer_s)
        return None if isinstance(run, _Completed) else run.ending

    def look(self) -> Ending | None:
        """Whether it answers at all (05 01). None when it does."""
        run = self._run(Apdu(control=zvt.STATUS_ENQUIRY), self._answer_s)
        return None if isinstance(run, _Completed) else run.ending

    def _run(self, command: Apdu, payment_s: float, gives_up: Callable[[], bool] = _never) -> _Completed | _Ended:
        heard = _Heard()
        try:
            self._link.send(command, self._answer_s)
            answer = self._link.receive(self._answer_s)
            if answer.control[0] == zvt.REFUSED_CLASS:
                return _Ended(ending=Refused(error=answer.control[1]))
            if answer.control != zvt.ACCEPTED:
                return _Ended(ending=Unknown(reason=f"answered with {answer.control.hex()}", status=None))
            return self._listen(heard, time.monotonic() + payment_s, gives_up)
        except LineError as trouble:
            told = tuple(heard.all)
            return _Ended(ending=Unknown(reason=str(trouble), status=told[-1] if told else None), all=told)

    def _listen(self, heard: _Heard, ends_at: float, gives_up: Callable[[], bool]) -> _Completed | _Ended:
        """Until the PIN pad ends it. A customer who does not come is given up with an abort, and its word is heard."""
        has_given_up = False
        while True:
            has_begun = self._link.has_begun(max(0.0, min(_STEP_S, ends_at - time.monotonic())))
            late_s = time.monotonic() - ends_at
            # It is spoken to when it pauses, and one that never pauses all the same.
            may_speak = not has_begun or late_s >= self._answer_s
            if may_speak and has_given_up and late_s >= 0:
                raise LineSilent("the PIN pad did not say how it ended after it was told to stop")
            if may_speak and not has_given_up and (late_s >= 0 or gives_up()):
                has_given_up, ends_at = True, time.monotonic() + 2 * self._answer_s
                self._link.send(Apdu(control=zvt.ABORT_BY_TILL), self._answer_s)
            if not has_begun:
                continue
            told = self._link.receive(self._answer_s)
            if told.control == zvt.ACCEPTED or told.control[0] == zvt.REFUSED_CLASS:
                continue  # the answer to our abort; a no to it means that the card is being asked already
            heard.take(told)
            self._link.send(_OK, self._answer_s)
            if told.control == zvt.COMPLETION:
                return _Completed(all=tuple(heard.all), slip=tuple(heard.slip))
            if told.control == zvt.ABORT_BY_PIN_PAD:
                return _Ended(ending=Declined(result=told.data[0] if told.data else 0xFF), all=tuple(heard.all))


def _moved(run: _Completed | _Ended, amount_minor: int, currency: int) -> Ending:
    """How a command that moves money ended."""
    status = run.status
    if isinstance(run, _Completed):
        if status is None or status.result != zvt.RESULT_OK:
            return Unknown(reason="completed without a good result", status=status, kind="result")
        if (status.amount_minor, status.currency) not in ((amount_minor, currency), (amount_minor, None)):
            return Unknown(reason="completed with another amount or currency", status=status, kind="amount")
        return Paid(status=status, slip=run.slip)
    if isinstance(run.ending, Declined):
        said = (run.ending.result, None if status is None else status.result)
        if zvt.RESULT_OK in said:
            return Unknown(reason="aborted with or after a good result", status=status, kind="result")
    return run.ending


@dataclass(slots=True)
class _Heard:
    """What the PIN pad said so far; kept when the line breaks."""

    all: list[PaymentStatus] = field(default_factory=list)
    slip: list[str] = field(default_factory=list)

    def take(self, told: Apdu) -> None:
        """Raises LineUnreadable: a PIN pad that tells of more than it can hold."""
        if len(self.all) + len(self.slip) >= HEARD_MAX:
            raise LineUnreadable(f"more than {HEARD_MAX} messages to one command")
        if told.control == zvt.STATUS_INFORMATION:
            self.all.append(zvt.read_status(told.data))
        elif told.control == zvt.PRINT_LINE:
            self.slip.append(told.data[1:].decode("cp437"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    all: tuple[PaymentStatus, ...] = ()

    @property
    def status(self) -> PaymentStatus | None:
        """The last one counts."""
        return self.all[-1] if self.all else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Completed(_Run):
    slip: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended(_Run):
    ending: Ending

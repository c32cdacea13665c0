"""A PIN pad on an open line: one payment, its end as a value, and the last payment again.

Owns the order of a payment. Must never call a payment failed because the line did: from the first byte of the
authorisation on only the PIN pad's own word ends it, everything else is `Unknown`.

* `Refused` is the PIN pad's no to the command itself; `Declined` its abort before any good result.
* A result that contradicts the question (another amount, another currency) or itself is `Unknown`.
* To find out what became of it, ask `last_payment` and compare its trace number with the last one known before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypeAlias

from drivers.serial import zvt
from drivers.serial.errors import LineError, LineSilent
from drivers.serial.zvt import Apdu, PaymentStatus
from drivers.serial.zvt_link import ApduLink

_OK = Apdu(control=zvt.ACCEPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """Status with a good result, and the completion behind it. `slip` is what the PIN pad wanted printed."""

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
    """Nobody knows; `status` is what was heard before."""

    reason: str
    status: PaymentStatus | None


Ending: TypeAlias = Paid | Declined | Refused | Unknown


class PinPad:
    """One PIN pad; `answer_s` bounds every answer but the customer's."""

    def __init__(self, link: ApduLink, *, answer_s: float = 5.0) -> None:
        self._link = link
        self._answer_s = answer_s

    def register(self, password: str, currency: int) -> Ending | None:
        """Chapter 2.1; once after connecting. None when it went well."""
        ending = self._run(zvt.registration(password, currency), self._answer_s)
        return None if isinstance(ending, _Completed) else ending.ending

    def pay(self, amount_minor: int, currency: int, *, payment_s: float) -> Ending:
        """Ask for a card and take the amount; the customer has `payment_s` seconds."""
        run = self._run(zvt.authorisation(amount_minor, currency), payment_s)
        status = run.status
        if isinstance(run, _Completed):
            if status is None or status.result != zvt.RESULT_OK:
                return Unknown(reason="completed without a good result", status=status)
            if (status.amount_minor, status.currency) not in ((amount_minor, currency), (amount_minor, None)):
                return Unknown(reason="completed with another amount or currency", status=status)
            return Paid(status=status, slip=run.slip)
        if isinstance(run.ending, Declined) and status is not None and status.result == zvt.RESULT_OK:
            return Unknown(reason="aborted after a good result", status=status)
        return run.ending

    def last_payment(self, password: str, *, payment_s: float) -> PaymentStatus | Ending:
        """Status of the last payment that the PIN pad keeps (06 20)."""
        run = self._run(zvt.repeat_receipt(password), payment_s)
        if isinstance(run, _Completed):
            return run.status or Unknown(reason="completed without a status", status=None)
        return run.ending

    def _run(self, command: Apdu, payment_s: float) -> _Completed | _Ended:
        heard = _Heard()
        try:
            self._link.send(command, self._answer_s)
            answer = self._link.receive(self._answer_s)
            if answer.control[0] == zvt.REFUSED_CLASS:
                return _Ended(ending=Refused(error=answer.control[1]))
            if answer.control != zvt.ACCEPTED:
                return _Ended(ending=Unknown(reason=f"answered with {answer.control.hex()}", status=None))
            return self._listen(heard, payment_s)
        except LineError as trouble:
            return _Ended(ending=Unknown(reason=str(trouble), status=heard.status), status=heard.status)

    def _listen(self, heard: _Heard, payment_s: float) -> _Completed | _Ended:
        """Until the PIN pad ends it. A customer who does not come is given up with an abort, and its word is heard."""
        has_given_up = False
        ends_at = time.monotonic() + payment_s
        while True:
            try:
                told = self._link.receive(max(0.0, ends_at - time.monotonic()))
            except LineSilent:
                if has_given_up:
                    raise
                has_given_up, ends_at = True, time.monotonic() + 2 * self._answer_s
                self._link.send(Apdu(control=zvt.ABORT_BY_TILL), self._answer_s)
                continue
            if told.control == zvt.ACCEPTED:
                continue  # the answer to our abort
            heard.take(told)
            self._link.send(_OK, self._answer_s)
            if told.control == zvt.COMPLETION:
                return _Completed(status=heard.status, slip=tuple(heard.slip))
            if told.control == zvt.ABORT_BY_PIN_PAD:
                return _Ended(ending=Declined(result=told.data[0] if told.data else 0xFF), status=heard.status)


@dataclass(slots=True)
class _Heard:
    """What the PIN pad said so far; kept when the line breaks."""

    status: PaymentStatus | None = None
    slip: list[str] = field(default_factory=list)

    def take(self, told: Apdu) -> None:
        if told.control == zvt.STATUS_INFORMATION:
            self.status = zvt.read_status(told.data)
        elif told.control == zvt.PRINT_LINE:
            self.slip.append(told.data[1:].decode("cp437"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Completed:
    status: PaymentStatus | None
    slip: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    ending: Ending
    status: PaymentStatus | None = None

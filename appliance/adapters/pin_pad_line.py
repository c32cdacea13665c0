"""The line to one PIN pad, and what is asked over it; blocking, for the PIN pad's owner thread.

- A line that was in trouble is dropped, and what waits in it is thrown away; the next question opens another one.
- Money is asked for at most once; only what reads is asked again, when an old line turned out to be dead.
- A payment is begun only while the PIN pad's last payment, as this thread knows it, is the one that the log names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from appliance.adapters.pin_pad_name import PadPayment, payment_of
from appliance.config.secret import Secret
from drivers.serial import zvt
from drivers.serial.errors import LineError
from drivers.serial.line import CONNECT_PREFIX, Line
from drivers.serial.pin_pad import Declined, Ending, Paid, PinPad, Refused, Sent, Unknown
from drivers.serial.zvt import PaymentStatus
from drivers.serial.zvt_link import SerialLink, TcpLink

READ_S: Final = 10.0
"""How long a PIN pad may take to tell its last payment, which it would print otherwise."""
BUSY: Final = "pad_busy"
MOVED_ON: Final = "pad_moved_on"


@dataclass(frozen=True, slots=True, kw_only=True)
class PadSettings:
    """One PIN pad.

    Attributes:
        address: `/dev/...`, or `socket://HOST:PORT`.
        password: six digits.
        currency: ISO 4217 number.
        is_used_by_hand: payments may also be begun at the PIN pad itself.
    """

    name: str
    address: str
    baud: int
    password: Secret
    currency: int
    answer_s: float
    customer_s: float
    is_used_by_hand: bool = False

    @property
    def opening_s(self) -> float:
        """A connection, a registration and a command that is taken, at their slowest."""
        return 4 * self.answer_s

    @property
    def moving_s(self) -> float:
        """All of a payment: the customer's time, and what the PIN pad takes to end it."""
        return self.opening_s + self.customer_s + READ_S + 4 * self.answer_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """The PIN pad did not take the question: nothing was asked. `reason`: stable lower_snake."""

    reason: str


Moved: TypeAlias = Ending | Away


class PadLine:
    """The session of one owner thread."""

    def __init__(self, settings: PadSettings) -> None:
        self._settings = settings
        self._line: Line | None = None
        self._pad: PinPad | None = None
        self._config: int | None = None
        self._last: PadPayment | None = None

    def close(self) -> None:
        """Let the device go."""
        line, self._line, self._pad, self._config, self._last = self._line, None, None, None, None
        if line is not None:
            line.close()

    def read(self) -> PadPayment | Away:
        """The PIN pad's last payment, without a slip."""
        was_open = self._line is not None
        found = self._read_once()
        if was_open and self._line is None:
            found = self._read_once()  # perhaps the line alone was dead: it lay idle since the last customer
        self._last = found if isinstance(found, PadPayment) else None
        return found

    def pay(self, amount_minor: int, *, after: PadPayment, gives_up: Callable[[], bool]) -> Moved:
        """Take the amount, if nothing happened at the PIN pad since `after` was read here."""
        if gives_up():
            return Declined(result=zvt.ABORTED)  # he was given up while another payment was at the PIN pad
        last = self._last or self.read()
        if isinstance(last, Away):
            return last
        if last != after:
            return Away(reason=MOVED_ON)
        settings = self._settings
        moved = self._move(
            lambda pad: pad.pay(amount_minor, settings.currency, payment_s=settings.customer_s, gives_up=gives_up)
        )
        return self._checked(moved, after)

    def give_back(
        self, amount_minor: int, *, of: PadPayment, on_mark: Callable[[PadPayment], None], gives_up: Callable[[], bool]
    ) -> Moved:
        """Undo the payment `of` where it is the last one and goes back whole; else the customer shows a card.

        Args:
            on_mark: told what the PIN pad's last payment is before anything is asked.
        """
        last = self.read()
        if isinstance(last, Away):
            return last
        on_mark(last)
        settings = self._settings
        receipt = of.receipt
        if receipt is not None and last.is_same(of) and amount_minor == of.amount_minor:
            undone = self._move(
                lambda pad: pad.reverse(
                    receipt, amount_minor, settings.currency, payment_s=settings.customer_s, gives_up=gives_up
                )
            )
            # Where an abort crossed it the money may have gone back: it must not go back to a card as well.
            undone = self._checked(undone, of)
            if not isinstance(undone, Declined | Refused) or gives_up():
                return undone
        moved = self._move(
            lambda pad: pad.refund(amount_minor, settings.currency, payment_s=settings.customer_s, gives_up=gives_up)
        )
        return self._checked(moved, last)

    def undo(self, of: PadPayment) -> Moved:
        """Undo the payment `of`, which must be the last one."""
        last = self.read()
        if isinstance(last, Away):
            return last
        receipt, amount_minor = of.receipt, of.amount_minor
        if receipt is None or amount_minor is None or not last.is_same(of):
            return Refused(error=0)
        settings = self._settings
        return self._move(
            lambda pad: pad.reverse(receipt, amount_minor, settings.currency, payment_s=settings.answer_s + READ_S)
        )

    def hand_in(self, of: PadPayment) -> Sent | Away:
        """Have what was approved offline sent to its bank.

        A word of the bank may have been lost on the way: where the PIN pad speaks no more of `of`, its last payment is
        read, too.
        """
        opened = self._open(zvt.TILL_PRINTS)
        if isinstance(opened, Away):
            return opened
        sent = opened.send_offline(payment_s=self._settings.customer_s)
        if sent.trouble is None and not any(of.is_meant_by(status) for status in sent.told):
            last = opened.last_payment(payment_s=READ_S)
            if isinstance(last, PaymentStatus):
                # Without an explicit word that its bank was asked it says only what was known before.
                return Sent(told=(*sent.told, last), trouble=None) if last.is_online else sent
            sent = Sent(told=sent.told, trouble=last if isinstance(last, Unknown) else None)
        if isinstance(sent.trouble, Unknown):
            self.close()
        return sent

    def withdraw(self) -> None:
        """Send a customer away whom nobody waits for any more."""
        opened = self._open(None)
        if isinstance(opened, PinPad) and isinstance(opened.abort(), Unknown):
            self.close()

    def answers(self) -> bool:
        """Whether it answers at all."""
        opened = self._open(None)
        if isinstance(opened, Away):
            return False
        trouble = opened.look()
        if isinstance(trouble, Unknown):
            self.close()
        return not isinstance(trouble, Unknown)

    def _checked(self, moved: Moved, after: PadPayment) -> Moved:
        """An abort may have crossed an approval: the last payment tells which of them the PIN pad means."""
        if moved != Declined(result=zvt.ABORTED):
            return moved
        last = self.read()
        if isinstance(last, Away):
            return Unknown(reason=f"after an abort: {last.reason}", status=None)
        if last.has_moved and not last.is_same(after):
            return Unknown(reason="aborted, and another payment is the last one", status=None, kind="result")
        return moved

    def _read_once(self) -> PadPayment | Away:
        opened = self._open(zvt.TILL_PRINTS)
        if isinstance(opened, Away):
            return opened
        match opened.last_payment(payment_s=READ_S):
            case PaymentStatus() as status:
                found = payment_of(self._settings.name, status)
                return found if found.is_named else Away(reason="pad_tells_no_last_payment")
            case Declined():
                return PadPayment(pad=self._settings.name)
            case Refused(error=error):
                return Away(reason=BUSY if error == zvt.BUSY else "pad_refuses")
            case Unknown(kind="result"):
                return Away(reason="pad_tells_no_last_payment")
            case _:
                self.close()
                return Away(reason="pad_silent")

    def _move(self, ask: Callable[[PinPad], Ending]) -> Moved:
        opened = self._open(0)  # the PIN pad prints its own slips
        if isinstance(opened, Away):
            return opened
        ending = ask(opened)
        self._last = None
        if isinstance(ending, Paid):
            self._last = payment_of(self._settings.name, ending.status)
        elif isinstance(ending, Unknown):
            self.close()
        return ending

    def _open(self, prints: int | None) -> PinPad | Away:
        """The PIN pad, registered so that it prints or does not; None: as it is."""
        settings = self._settings
        try:
            if self._line is None:
                self._line = Line(settings.address, settings.baud, forgets=True)
                link = TcpLink(self._line) if settings.address.startswith(CONNECT_PREFIX) else SerialLink(self._line)
                password = settings.password.reveal_text()
                self._pad = PinPad(link, password=password, answer_s=settings.answer_s)
        except LineError:
            return Away(reason="connection_failed")
        pad = self._pad
        if pad is None:
            return Away(reason="connection_failed")
        if prints is None:
            return pad
        config = prints | zvt.WITH_PROGRESS | (0 if settings.is_used_by_hand else zvt.TILL_ALONE)
        if config == self._config:
            return pad
        match pad.register(settings.currency, config=config):
            case None:
                self._config = config
                return pad
            case Refused(error=error):
                return Away(reason=BUSY if error == zvt.BUSY else "pad_refuses")
            case Unknown():
                self.close()
                return Away(reason="pad_silent")
            case _:
                return Away(reason="pad_refuses")

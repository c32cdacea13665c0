"""A payment at a PIN pad, on a pseudo-terminal and on TCP: the line may end anywhere, money is never guessed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from drivers.serial.errors import LineError, LineSilent
from drivers.serial.line import Line
from drivers.serial.pin_pad import Declined, Ending, Paid, PinPad, Refused, Unknown
from drivers.serial.zvt import PaymentStatus
from drivers.serial.zvt_link import SerialLink, TcpLink
from provisioning.sandbox.pin_pad_twin import BANK_SAYS_NO, BUSY, CARD_REFUSED, DECLINED, NOT_POSSIBLE, PinPadTwin
from provisioning.sandbox.printer_twin import on_tcp, on_terminal

EUR = 978
PASSWORD = "000000"
# A busy machine answers late; only the tests of silence are in a hurry.
LONG_S, SHORT_S = 60.0, 0.5
ENDLESS_S = 30.0  # what is bounded by a few SHORT_S ends long before
MESSAGES = 6  # of a payment: accepted, two texts, status, slip, completion


@dataclass(frozen=True, slots=True)
class Rig:
    twin: PinPadTwin
    address: str

    def pay(self, *, answer_s: float = LONG_S, payment_s: float = LONG_S) -> Ending:
        with self.pad(answer_s) as pad:
            return pad.pay(1250, EUR, payment_s=payment_s)

    def pay_in_a_hurry(self) -> Ending:
        return self.pay(answer_s=SHORT_S, payment_s=SHORT_S)

    def last(self) -> PaymentStatus | Ending:
        with self.pad() as pad:
            return pad.last_payment(payment_s=LONG_S)

    @contextmanager
    def pad(self, answer_s: float = LONG_S) -> Iterator[PinPad]:
        with Line(self.address, 9_600) as line:
            link = SerialLink(line) if self.twin.is_framed else TcpLink(line)
            yield PinPad(link, password=PASSWORD, answer_s=answer_s)


class Trickle:
    """Sends a byte each tenth of a second; use as a context."""

    def __init__(self, line: socket.socket, content: bytes) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(line, content))

    def _send(self, line: socket.socket, content: bytes) -> None:
        for byte in content:
            if self._stop.wait(0.1):
                return
            line.sendall(bytes([byte]))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(params=["pty", "tcp"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    twin = PinPadTwin(is_framed=request.param == "pty")
    with (on_terminal if twin.is_framed else on_tcp)(twin.take) as address:
        yield Rig(twin, address)


def test_card_pays(rig: Rig) -> None:
    ending = rig.pay()
    assert isinstance(ending, Paid)
    assert (ending.status.amount_minor, ending.status.trace, ending.slip) == (1250, 1, ("** PAID **",))
    assert len(rig.twin.taken) == 1


def test_pin_pad_is_registered_and_pays_twice(rig: Rig) -> None:
    with rig.pad() as pad:
        assert pad.register(EUR) is None
        assert isinstance(pad.pay(100, EUR, payment_s=LONG_S), Paid)
        assert isinstance(pad.pay(4_112, EUR, payment_s=LONG_S), Paid)  # bytes 0x41 0x12; 110.00 has the 0x10
        assert isinstance(pad.pay(11_000, EUR, payment_s=LONG_S), Paid)
    assert [each.amount for each in rig.twin.taken] == ["000000000100", "000000004112", "000000011000"]


def test_declined_card_takes_no_money(rig: Rig) -> None:
    rig.twin.ends_with = CARD_REFUSED
    assert rig.pay() == Declined(result=CARD_REFUSED)
    assert rig.twin.taken == []


def test_abort_with_a_good_result_is_unknown(rig: Rig) -> None:
    rig.twin.customer = lambda: "contradict"
    ending = rig.pay()
    assert isinstance(ending, Unknown)
    assert ending.kind == "result"


def test_command_that_is_not_taken_began_nothing(rig: Rig) -> None:
    rig.twin.refuses = 0x9C
    assert rig.pay() == Refused(error=0x9C)


def test_customer_who_does_not_come_is_given_up(rig: Rig) -> None:
    rig.twin.waits_for_card = True
    assert rig.pay(payment_s=SHORT_S) == Declined(result=DECLINED)
    assert rig.twin.taken == []


@pytest.mark.parametrize("after", range(MESSAGES))
def test_line_cut_at_any_step_is_unknown_and_the_pin_pad_tells_afterwards(rig: Rig, after: int) -> None:
    rig.twin.silent_after = after
    ending = rig.pay_in_a_hurry()
    assert isinstance(ending, Unknown)
    rig.twin.mend_line()
    last = rig.last()
    assert len(rig.twin.taken) == 1  # the money moved: "failed" would have been a lie
    assert isinstance(last, PaymentStatus)
    assert (last.amount_minor, last.trace) == (1250, 1)


@pytest.mark.parametrize("after", range(MESSAGES))
def test_connection_that_breaks_at_any_step_is_unknown_and_the_pin_pad_tells_afterwards(after: int) -> None:
    twin = PinPadTwin(is_framed=False, cuts_after=after)
    with on_tcp(twin.take) as address:
        rig = Rig(twin, address)
        assert isinstance(rig.pay(), Unknown)
        twin.mend_line()
        last = rig.last()
    assert isinstance(last, PaymentStatus)
    assert (last.amount_minor, last.trace, len(twin.taken)) == (1250, 1, 1)


def test_payment_is_reversed_by_its_receipt(rig: Rig) -> None:
    paid = rig.pay()
    assert isinstance(paid, Paid)
    assert paid.status.receipt is not None
    with rig.pad() as pad:
        undone = pad.reverse(paid.status.receipt, 1250, EUR, payment_s=LONG_S)
        again = pad.reverse(paid.status.receipt, 1250, EUR, payment_s=LONG_S)
    assert isinstance(undone, Paid)
    assert undone.status.original_trace == paid.status.trace
    assert again == Declined(result=NOT_POSSIBLE)
    assert rig.twin.kept_minor == 0


def test_reversal_of_another_amount_is_unknown(rig: Rig) -> None:
    rig.pay()
    with rig.pad() as pad:
        assert isinstance(pad.reverse(1, 999, EUR, payment_s=LONG_S), Unknown)


def test_money_is_given_back_to_a_card(rig: Rig) -> None:
    rig.pay()
    with rig.pad() as pad:
        assert isinstance(pad.refund(250, EUR, payment_s=LONG_S), Paid)
    assert rig.twin.kept_minor == 1000


def test_customer_is_given_up_when_the_till_says_so(rig: Rig) -> None:
    rig.twin.waits_for_card = True
    with rig.pad() as pad:
        assert pad.pay(1250, EUR, payment_s=LONG_S, gives_up=lambda: True) == Declined(result=DECLINED)
    assert (rig.twin.taken, rig.twin.is_busy) == ([], False)


def test_pin_pad_that_talks_on_and_on_is_told_to_stop(rig: Rig) -> None:
    rig.twin.talks_on = True
    rig.twin.on_abort = lambda: setattr(rig.twin, "talks_on", False)
    began = time.monotonic()
    ending = rig.pay_in_a_hurry()
    assert isinstance(ending, Declined | Unknown)  # frames that cross on a serial line are read by neither side
    assert time.monotonic() - began < ENDLESS_S
    if not rig.twin.is_framed:
        assert ending == Declined(result=DECLINED)


ASKED: dict[str, Callable[[PinPad], object]] = {
    "pay": lambda pad: pad.pay(1250, EUR, payment_s=SHORT_S),
    "look": lambda pad: pad.look(),
    "last payment": lambda pad: pad.last_payment(payment_s=SHORT_S),
    "offline": lambda pad: pad.send_offline(payment_s=SHORT_S).trouble,
}


@pytest.mark.parametrize("what", ASKED)
def test_pin_pad_that_never_comes_to_an_end_is_unknown(rig: Rig, what: str) -> None:
    rig.twin.talks_on = True
    began = time.monotonic()
    with rig.pad(SHORT_S) as pad:
        ending = ASKED[what](pad)
    assert isinstance(ending, Unknown)
    assert ending.kind == "line"
    assert time.monotonic() - began < ENDLESS_S


def test_pin_pad_that_tells_of_more_than_it_can_hold_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.serial.pin_pad.HEARD_MAX", 3)
    twin = PinPadTwin(is_framed=False, customer=lambda: "offline")
    with on_tcp(twin.take) as address:
        rig = Rig(twin, address)
        for _ in range(4):
            assert isinstance(rig.pay(), Paid)
        twin.customer = lambda: "approve"
        with rig.pad() as pad:
            sent = pad.send_offline(payment_s=LONG_S)
    assert len(sent.told) == 3
    assert isinstance(sent.trouble, Unknown)


def test_frame_whose_bytes_come_one_by_one_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.serial.zvt_link.FRAME_S", SHORT_S)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(f"socket://127.0.0.1:{listener.getsockname()[1]}")
        pad, _ = listener.accept()
        with pad, line, Trickle(pad, b"\x10\x02" + b"A" * 4_000):
            began = time.monotonic()
            with pytest.raises(LineSilent):
                SerialLink(line).receive(LONG_S)
            assert time.monotonic() - began < ENDLESS_S


def test_busy_pin_pad_tells_nothing(rig: Rig) -> None:
    rig.twin.is_busy = True
    assert rig.last() == Refused(error=BUSY)


def test_pin_pad_that_answers_is_seen_and_its_day_ends(rig: Rig) -> None:
    with rig.pad() as pad:
        assert pad.look() is None
        assert pad.end_day(payment_s=LONG_S) is None


def test_what_was_approved_offline_is_handed_in_and_each_bank_is_heard(rig: Rig) -> None:
    customers = ["offline", "offline-refused"]
    rig.twin.customer = lambda: customers[0]
    while customers:
        paid = rig.pay()
        assert isinstance(paid, Paid)
        assert paid.status.is_offline
        customers.pop(0)
    rig.twin.customer = lambda: "approve"
    with rig.pad() as pad:
        sent = pad.send_offline(payment_s=LONG_S)
    assert sent.trouble is None
    assert [(each.trace, each.result) for each in sent.told] == [(1, 0), (2, BANK_SAYS_NO)]
    assert rig.twin.kept_minor == 1250


def test_what_a_line_forgets_is_not_delivered_after_it_was_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(f"socket://127.0.0.1:{listener.getsockname()[1]}", forgets=True)
        caller, _ = listener.accept()
        with caller:
            line.close()
            # An orderly end is an empty read, and delivers what was under way; a reset does not.
            with pytest.raises(ConnectionResetError):
                caller.recv(1)


def test_line_that_is_gone_before_the_command_is_not_opened(rig: Rig) -> None:
    with pytest.raises(LineError), Line("/dev/no-such-pin-pad"):
        pass
    assert rig.twin.taken == []


def test_other_amount_than_asked_for_is_unknown(rig: Rig) -> None:
    rig.twin.says_amount = "000000000125"
    ending = rig.pay()
    assert isinstance(ending, Unknown)
    assert ending.status is not None


def test_last_payment_of_none_is_an_abort(rig: Rig) -> None:
    assert rig.last() == Declined(result=CARD_REFUSED)


def test_damaged_frame_is_asked_for_again() -> None:
    twin = PinPadTwin(damages=2)
    with on_terminal(twin.take) as address:
        assert isinstance(Rig(twin, address).pay(), Paid)
    assert twin.naks == 2
    assert len(twin.taken) == 1


def test_frame_that_stays_damaged_is_unknown() -> None:
    twin = PinPadTwin(damages=1_000)
    with on_terminal(twin.take) as address:
        assert isinstance(Rig(twin, address).pay(), Unknown)


@pytest.mark.parametrize("noise", [b"\xff", b"\x06\x06\x06", b"\x15\x15\x15\x15", b"\x06\x10\x02\x10\x41"])
def test_noise_is_unknown(noise: bytes) -> None:
    with on_terminal(lambda _data: noise) as address:
        assert isinstance(Rig(PinPadTwin(), address).pay_in_a_hurry(), Unknown)

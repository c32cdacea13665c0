"""A payment at a PIN pad, on a pseudo-terminal and on TCP: the line may end anywhere, money is never guessed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from drivers.serial.errors import LineError
from drivers.serial.line import Line
from drivers.serial.pin_pad import Declined, Ending, Paid, PinPad, Refused, Unknown
from drivers.serial.zvt import PaymentStatus
from drivers.serial.zvt_link import SerialLink, TcpLink
from provisioning.sandbox.pin_pad_twin import CARD_REFUSED, DECLINED, PinPadTwin
from provisioning.sandbox.printer_twin import on_tcp, on_terminal

EUR = 978
PASSWORD = "000000"
# A busy machine answers late; only the tests of silence are in a hurry.
LONG_S, SHORT_S = 60.0, 0.5
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
            return pad.last_payment(PASSWORD, payment_s=LONG_S)

    @contextmanager
    def pad(self, answer_s: float = LONG_S) -> Iterator[PinPad]:
        with Line(self.address, 9_600) as line:
            yield PinPad(SerialLink(line) if self.twin.is_framed else TcpLink(line), answer_s=answer_s)


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
        assert pad.register(PASSWORD, EUR) is None
        assert isinstance(pad.pay(100, EUR, payment_s=LONG_S), Paid)
        assert isinstance(pad.pay(4_112, EUR, payment_s=LONG_S), Paid)  # bytes 0x41 0x12; 110.00 has the 0x10
        assert isinstance(pad.pay(11_000, EUR, payment_s=LONG_S), Paid)
    assert [each.amount for each in rig.twin.taken] == ["000000000100", "000000004112", "000000011000"]


def test_declined_card_takes_no_money(rig: Rig) -> None:
    rig.twin.ends_with = CARD_REFUSED
    assert rig.pay() == Declined(result=CARD_REFUSED)
    assert rig.twin.taken == []


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

"""ZVT: frames and fields, against wire bytes that other implementations publish."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.serial import zvt
from drivers.serial.errors import LineUnreadable
from drivers.serial.zvt import Apdu, decode_apdu, read_status
from drivers.serial.zvt_link import frame


@pytest.mark.parametrize(
    ("apdu", "wire"),
    [
        (Apdu(control=b"\x06\x70"), "10 02 06 70 00 10 03 D9 F9"),
        (Apdu(control=b"\x80\x00"), "10 02 80 00 00 10 03 F5 1F"),
        (Apdu(control=b"\x84\x9c"), "10 02 84 9C 00 10 03 C3 41"),
        (Apdu(control=b"\x05\x01", data=b"\x12\x34\x56"), "10 02 05 01 03 12 34 56 10 03 E0 43"),
        # 110.00 has a byte 10, which is doubled and counted once by length and checksum.
        (zvt.authorisation(11_000, 978), "10 02 06 01 0A 04 00 00 00 01 10 10 00 49 09 78 10 03 F2 FF"),
    ],
)
def test_frames_are_those_that_others_send(apdu: Apdu, wire: str) -> None:
    assert frame(apdu.encode()) == bytes.fromhex(wire)


def test_commands_are_laid_out_as_the_chapters_say() -> None:
    assert zvt.registration("123456", 978).encode().hex() == "060006" + "123456" + "06" + "0978"
    assert zvt.registration("123456", 978, config=zvt.TILL_PRINTS | zvt.TILL_ALONE).encode().hex()[-6:] == "360978"
    assert zvt.with_password(zvt.REPEAT_RECEIPT, "000000").encode().hex() == "062003000000"
    assert zvt.with_password(zvt.END_OF_DAY, "123456").encode().hex() == "065003123456"
    assert zvt.reversal("000000", 23).encode().hex() == "063006" + "000000" + "870023"
    assert zvt.refund("000000", 1250, 978).encode().hex() == "06310d" + "000000" + "04000000001250" + "490978"
    assert zvt.authorisation(1, 756).encode().hex() == "06010a" + "04000000000001" + "490756"


@pytest.mark.parametrize("amount", [0, -1, 10**12])
def test_amount_that_does_not_fit_is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        zvt.authorisation(amount, 978)


@given(st.binary(max_size=2_000))
def test_apdu_comes_back_as_it_went(data: bytes) -> None:
    apdu = Apdu(control=b"\x06\x01", data=data)
    assert decode_apdu(apdu.encode()) == apdu


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (decode_apdu, read_status):
        with suppress(LineUnreadable):
            read(data)


def test_status_is_read_and_the_card_number_is_not_kept() -> None:
    status = read_status(
        bytes.fromhex("2700040000000012504909780b000017870023291234567822f0f2eeee8bf0f4") + b"VISA\x06\x03\x1f\x10\x00"
    )
    assert status == zvt.PaymentStatus(
        result=0, amount_minor=1250, currency=978, trace=17, receipt=23, terminal="12345678"
    )


def test_a_reversal_a_time_and_an_offline_approval_are_read() -> None:
    status = read_status(bytes.fromhex("2700" + "0b000018" + "37000017" + "0c143000" + "0d1127" + "06041f110100"))
    assert (status.original_trace, status.stamp, status.is_offline) == (17, "1127143000", True)
    online = read_status(bytes.fromhex("2700" + "06071f1101011f1000"))
    assert (online.original_trace, online.stamp, online.is_offline) == (None, None, False)


@pytest.mark.parametrize(
    "data",
    ["27", "0400", "99", "22f0", "22f0fa", "2200f2eeee", "06", "0683000001", "068201", "0400000000125a", "0605"],
)
def test_field_that_is_unknown_or_cut_is_refused(data: str) -> None:
    with pytest.raises(LineUnreadable):
        read_status(bytes.fromhex(data))

"""ESC/POS: the bytes that go out, and what comes back, against Epson's command reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.serial import escpos
from drivers.serial.errors import LineUnreadable
from drivers.serial.escpos import PrinterStatus, read_status

READY = PrinterStatus(is_offline=False, is_cover_open=False, is_paper_out=False, is_paper_low=False, has_error=False)


@pytest.mark.parametrize(
    ("made", "vector"),
    [
        (escpos.begin("cp858"), "1b40 1d6100 1b7413"),
        (escpos.row("Hi", "cp858"), "1b4500 1d2100 4869 0a"),
        (escpos.row("Hi", "cp858", is_bold=True, is_tall=True), "1b4501 1d2101 4869 0a"),
        (escpos.CUT, "1d564200"),
        (escpos.drawer_kick(2), "1b7000 32fa"),
        (escpos.drawer_kick(5, 200), "1b7001 64fa"),
        (escpos.drawer_kick_now(2), "1014010001"),
        (escpos.drawer_kick_now(5), "1014010101"),
        (escpos.status_request(escpos.Ask.PAPER), "100404"),
        (
            escpos.qr_code(b"AB", 4),
            "1b6101 1d286b0400 31413200 1d286b0300 314304 1d286b0300 314530"
            "1d286b0500 315030 4142 1d286b0300 315130 1b6100",
        ),
    ],
)
def test_commands_are_those_of_the_reference(made: bytes, vector: str) -> None:
    assert made == bytes.fromhex(vector.replace(" ", ""))


def test_long_code_says_its_length_low_byte_first() -> None:
    assert b"\x1d(k\x17\x05\x31\x50\x30AAAA" in escpos.qr_code(b"A" * 1300, 3)


@pytest.mark.parametrize(("content", "dots"), [(b"", 3), (b"A" * 7_087, 3), (b"A", 0), (b"A", 17)])
def test_code_outside_the_bounds_is_refused(content: bytes, dots: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        escpos.qr_code(content, dots)


@pytest.mark.parametrize(("pin", "on_ms"), [(3, 100), (2, 1), (2, 511)])
def test_kick_outside_the_bounds_is_refused(pin: int, on_ms: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        escpos.drawer_kick(pin, on_ms)
    with pytest.raises(ValueError, match="expected"):
        escpos.drawer_kick_now(3)


@pytest.mark.parametrize(
    ("text", "page", "encoded"),
    [
        ("Müller 5 €", "cp858", "Müller 5 €".encode("cp858")),
        ("Mu\u0308ller", "cp437", "Müller".encode("cp437")),  # composed first
        ("5 €", "cp437", b"5 ?"),
        ("Łódź", "cp850", b"?\xa2dz"),  # L with stroke has no plain letter inside
        ("“ok” – fine…", "cp437", b'"ok" - fine.'),
        ("緑茶", "cp858", b"??"),
        ("a\x1b@b\x10\x04\x01\n\x7f\x9b", "cp437", b"a?@b??????"),
    ],
)
def test_what_a_page_lacks_has_a_stand_in(text: str, page: str, encoded: bytes) -> None:
    assert escpos.encode_text(text, page) == encoded


@given(st.text(), st.sampled_from(sorted(escpos.CODE_PAGES)))
def test_no_text_becomes_a_command(text: str, page: str) -> None:
    encoded = escpos.encode_text(text, page)
    assert all(byte >= 0x20 and byte != 0x7F for byte in encoded)


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ((0x12, 0x12, 0x12), {}),
        ((0x16, 0x12, 0x12), {}),  # the drawer's switch says nothing about paper
        ((0x1A, 0x16, 0x12), {"is_offline": True, "is_cover_open": True}),
        ((0x12, 0x12, 0x1E), {"is_paper_low": True}),
        ((0x1A, 0x32, 0x7E), {"is_offline": True, "is_paper_low": True, "is_paper_out": True}),
        ((0x1A, 0x52, 0x12), {"is_offline": True, "has_error": True}),
    ],
)
def test_status_bytes_are_read(answers: tuple[int, int, int], status: dict[str, bool]) -> None:
    assert read_status(*answers) == replace(READY, **status)


@pytest.mark.parametrize("byte", [0x00, 0xFF, 0x10, 0x13, 0x92, 0x41, 0x03])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_byte_that_is_no_status_is_never_read_as_one(byte: int, place: int) -> None:
    answers = [0x12, 0x12, 0x12]
    answers[place] = byte
    with pytest.raises(LineUnreadable):
        read_status(*answers)

"""The bytes of ESC/POS that we use: what goes to a receipt printer, and what its status bytes mean.

Pure. Must never let a byte of a text become a command: what is no character for the chosen page is replaced first.

Source of every command: Epson, "ESC/POS Command Reference", by the command's name. Status bytes: DLE EOT n, GS r.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from drivers.serial.errors import LineUnreadable

INITIALIZE: Final = b"\x1b@"  # ESC @
NO_AUTOMATIC_STATUS: Final = b"\x1da\x00"  # GS a 0: nothing but answers comes back
CUT: Final = b"\x1dVB\x00"  # GS V, function B: feed to the knife, leave one point
STATUS_BEHIND_DATA: Final = b"\x1dr\x01"  # GS r 1: answered in order, so behind everything sent before it
CODE_PAGES: Final = {"cp437": 0, "cp850": 2, "cp1252": 16, "cp866": 17, "cp852": 18, "cp858": 19}
"""ESC t n for the pages that Python can encode; which of them a printer has, its manual tells."""
MODULE_DOTS_MAX: Final = 16  # GS ( k, function 167
QR_BYTES_MAX: Final = 7_089 - 3

_LOOKALIKES: Final = str.maketrans("–—‘’“”„…•·", '--\'\'""".**')
_UNKNOWN: Final = "?"


def encode_text(text: str, code_page: str) -> bytes:
    """`text` in the printer's page, one byte for each character.

    What the page lacks becomes its lookalike, then its letter without accents, then "?". Control characters are no
    characters: a printer obeys them.
    """
    return b"".join([_character(one, code_page) for one in unicodedata.normalize("NFC", text)])


def _character(one: str, code_page: str) -> bytes:
    plain = unicodedata.normalize("NFKD", one)
    for candidate in (one, one.translate(_LOOKALIKES), plain[:1]):
        if candidate.isprintable():
            try:
                encoded = candidate.encode(code_page)
            except UnicodeEncodeError:
                continue
            if len(encoded) == 1 and encoded[0] >= 0x20 and encoded[0] != 0x7F:
                return encoded
    return _UNKNOWN.encode()


def begin(code_page: str) -> bytes:
    """A known state, whatever was sent before."""
    return INITIALIZE + NO_AUTOMATIC_STATUS + b"\x1bt" + bytes([CODE_PAGES[code_page]])  # ESC t n


def row(text: str, code_page: str, *, is_bold: bool = False, is_tall: bool = False) -> bytes:
    """One line: ESC E n (emphasised), GS ! n (bit 0: double height)."""
    look = (b"\x1bE" + bytes([is_bold])) + (b"\x1d!" + bytes([is_tall]))
    return look + encode_text(text, code_page) + b"\n"


def qr_code(content: bytes, module_dots: int) -> bytes:
    """A QR code in the middle of the paper, level L: GS ( k, functions 165, 167, 169, 180, 181; ESC a."""
    if not 1 <= module_dots <= MODULE_DOTS_MAX or not 1 <= len(content) <= QR_BYTES_MAX:
        raise ValueError(f"expected 1 to {MODULE_DOTS_MAX} dots and at most {QR_BYTES_MAX} bytes")
    stored = len(content) + 3
    return b"".join(
        (
            b"\x1ba\x01",
            b"\x1d(k\x04\x00\x31\x41\x32\x00",  # model 2
            b"\x1d(k\x03\x00\x31\x43" + bytes([module_dots]),
            b"\x1d(k\x03\x00\x31\x45\x30",  # level L
            b"\x1d(k" + stored.to_bytes(2, "little") + b"\x31\x50\x30" + content,
            b"\x1d(k\x03\x00\x31\x51\x30",
            b"\x1ba\x00",
        )
    )


def drawer_kick(pin: int, on_ms: int = 100) -> bytes:
    """ESC p m t1 t2: pulse on pin 2 or 5 of the drawer's plug; times are counted in 2 ms."""
    if pin not in (2, 5) or not 2 <= on_ms <= 510:
        raise ValueError("expected pin 2 or 5 and a pulse of 2 to 510 ms")
    return b"\x1bp" + bytes([0 if pin == 2 else 1, on_ms // 2, 250])


def drawer_kick_now(pin: int) -> bytes:
    """DLE DC4, function 1: the same at once, also while the printer has stopped, for want of paper say; 100 ms."""
    if pin not in (2, 5):
        raise ValueError("expected pin 2 or 5")
    return bytes((0x10, 0x14, 0x01, 0 if pin == 2 else 1, 1))


class Ask(IntEnum):
    """n of DLE EOT n."""

    PRINTER = 1
    OFFLINE_CAUSE = 2
    PAPER = 4


def status_request(what: Ask) -> bytes:
    """DLE EOT n: answered at once, also while the printer is offline or busy."""
    return bytes((0x10, 0x04, what))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterStatus:
    """What the printer says of itself."""

    is_offline: bool
    is_cover_open: bool
    is_paper_out: bool
    is_paper_low: bool
    has_error: bool


def read_status(printer: int, offline_cause: int, paper: int) -> PrinterStatus:
    """The three answers to `Ask`. Raises LineUnreadable when a byte is no such answer."""
    for name, byte in (("printer", printer), ("offline cause", offline_cause), ("paper", paper)):
        # Bits 0 and 7 are always 0, bits 1 and 4 always 1: noise, ASB and XON/XOFF are told from an answer by them.
        if byte & 0b1001_0011 != 0b0001_0010:
            raise LineUnreadable(f"no answer to DLE EOT ({name}): 0x{byte:02x}")
    return PrinterStatus(
        is_offline=bool(printer & 0x08),
        is_cover_open=bool(offline_cause & 0x04),
        is_paper_out=bool(paper & 0x60) or bool(offline_cause & 0x20),
        is_paper_low=bool(paper & 0x0C),
        has_error=bool(offline_cause & 0x40),
    )


def is_behind_data_answer(byte: int) -> bool:
    """Whether a byte answers GS r 1: bits 4 and 7 are 0."""
    return byte & 0b1001_0000 == 0

"""ZVT application protocol: the few APDUs and fields that a payment needs. Pure.

Must never keep a card number: fields that may hold one are skipped unread.

Source: "ECR-Interface ZVT-Protocol", PA00P015, revision 13.06 (2015-05-06), by the chapter named at each constant.
NOT VERIFIED marks what was read from other public implementations and not from that text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drivers.serial.errors import LineUnreadable

# Control fields, class and instruction.
STATUS_INFORMATION: Final = b"\x04\x0f"  # chapter 3.1
REGISTRATION: Final = b"\x06\x00"  # chapter 2.1
AUTHORISATION: Final = b"\x06\x01"  # chapter 2.2
COMPLETION: Final = b"\x06\x0f"  # chapter 2.2.10
ABORT_BY_PIN_PAD: Final = b"\x06\x1e"  # (NOT VERIFIED: number of the chapter)
ABORT_BY_TILL: Final = b"\x06\xb0"  # chapter 2.21
REPEAT_RECEIPT: Final = b"\x06\x20"  # (NOT VERIFIED: chapter, and that Status-Information of the last payment is sent)
REVERSAL: Final = b"\x06\x30"  # chapter 2.9
REFUND: Final = b"\x06\x31"  # chapter 2.14
END_OF_DAY: Final = b"\x06\x50"  # chapter 2.15
SEND_OFFLINE: Final = b"\x06\x51"  # revision 13.11, "Summary of Commands" (NOT VERIFIED: chapter, fields)
STATUS_ENQUIRY: Final = b"\x05\x01"  # revision 13.11, "Summary of Commands" (NOT VERIFIED: what an answer holds)
PRINT_LINE: Final = b"\x06\xd1"  # (NOT VERIFIED: number of the chapter)
ACCEPTED: Final = b"\x80\x00"  # positive answer to any command
REFUSED_CLASS: Final = 0x84  # negative answer; the second byte is the error

RESULT_OK: Final = 0x00  # BMP 27, chapter 8
ABORTED: Final = 0x6C  # chapter 8: by a key, a timeout, or the till
BUSY: Final = 0x9C  # chapter 8, "please wait": also the answer to a command while another one runs
# Config byte of chapter 2.1, as other implementations' tables of it say (NOT VERIFIED on the text itself).
TILL_PRINTS: Final = 0x06  # no slip of a payment or of administration comes out of the PIN pad
WITH_PROGRESS: Final = 0x08  # intermediate status while the customer is busy
TILL_ALONE: Final = 0x30  # nobody begins a payment or administration at the PIN pad itself
# What `status` may lack of a card that was approved without its bank: TLV tag of chapter 7.4.1 "online flag".
_ONLINE_FLAG: Final = b"\x1f\x11"
_OFFLINE: Final = b"\x00"  # (NOT VERIFIED: the value; the tag's name alone was read)

_AMOUNT, _CURRENCY, _TRACE, _RESULT, _TERMINAL, _RECEIPT, _TLV = 0x04, 0x49, 0x0B, 0x27, 0x29, 0x87, 0x06
_TIME, _DATE, _ORIGINAL_TRACE = 0x0C, 0x0D, 0x37
# Sizes of fields that have one; chapter "Bitmaps" (checked against two other public implementations).
_SIZES: Final = {
    **dict.fromkeys((0x01, 0x02, 0x03, 0x05, 0x19, _RESULT, 0x8A, 0x8C, 0xA0, 0xD0, 0xD2, 0xD3), 1),
    **dict.fromkeys((0x0D, 0x0E, 0x17, 0x3A, _CURRENCY, _RECEIPT), 2),
    **dict.fromkeys((_TRACE, 0x0C, 0x37, 0x3D, 0x88, 0xAA), 3),
    **dict.fromkeys((_TERMINAL,), 4),
    **dict.fromkeys((0xBA,), 5),
    **dict.fromkeys((_AMOUNT,), 6),
    **dict.fromkeys((0x3B, 0xEB), 8),
    **dict.fromkeys((0x2A,), 15),
}
_LL: Final = frozenset({0x22, 0x23, 0x2D, 0x8B, 0xA7, 0xD1, *range(0xF1, 0xF9)})  # two bytes Fx Fy: length 10x + y
_LLL: Final = frozenset({0x24, 0x2E, 0x3C, 0x60, 0x9A, 0xAF})  # three bytes Fx Fy Fz
AMOUNT_MAX: Final = 10**12 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Apdu:
    """One message: what it is, and its data."""

    control: bytes
    data: bytes = b""

    def encode(self) -> bytes:
        """Control field, length (from 255 on FF and two bytes, low first), data."""
        size = len(self.data)
        if size < 0xFF:
            return self.control + bytes([size]) + self.data
        return self.control + b"\xff" + size.to_bytes(2, "little") + self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentStatus:
    """What Status-Information says of a payment, refund or reversal; None where it says nothing.

    Attributes:
        currency: ISO 4217 number, three digits as a number.
        trace: of this payment at the PIN pad; receipt: number of its receipt.
        original_trace: of what it reverses; a reversal alone has one (BMP 37).
        stamp: month, day, hour, minute, second on the PIN pad's clock, as ten digits.
        is_offline: the card was approved without its bank.
        is_online: its bank was asked. Where the PIN pad says nothing of it neither is true.
    """

    result: int | None
    amount_minor: int | None
    currency: int | None
    trace: int | None
    receipt: int | None
    terminal: str | None
    original_trace: int | None = None
    stamp: str | None = None
    is_offline: bool = False
    is_online: bool = False


def decode_apdu(encoded: bytes) -> Apdu:
    """Raises LineUnreadable when it is not exactly one APDU."""
    head = 3 if len(encoded) < 3 or encoded[2] != 0xFF else 5
    size = encoded[2] if head == 3 and len(encoded) >= 3 else int.from_bytes(encoded[3:5], "little")
    if len(encoded) < head or len(encoded) != head + size:
        raise LineUnreadable(f"expected one APDU, saw {len(encoded)} bytes")
    return Apdu(control=encoded[:2], data=encoded[head:])


def registration(password: str, currency: int, *, config: int = TILL_PRINTS) -> Apdu:
    """Chapter 2.1: password, config byte, currency code."""
    return Apdu(control=REGISTRATION, data=_bcd(password, 3) + bytes([config]) + _bcd(f"{currency:04d}", 2))


def authorisation(amount_minor: int, currency: int) -> Apdu:
    """Chapter 2.2: amount (BMP 04) and currency (BMP 49)."""
    return Apdu(control=AUTHORISATION, data=_money(amount_minor, currency))


def reversal(password: str, receipt: int) -> Apdu:
    """Chapter 2.9: password and the receipt number (BMP 87) of the payment that is undone, all of it."""
    return Apdu(control=REVERSAL, data=_bcd(password, 3) + bytes([_RECEIPT]) + _bcd(f"{receipt:04d}", 2))


def refund(password: str, amount_minor: int, currency: int) -> Apdu:
    """Chapter 2.14: password, amount, currency. It names no payment: the customer shows a card again."""
    return Apdu(control=REFUND, data=_bcd(password, 3) + _money(amount_minor, currency))


def with_password(control: bytes, password: str) -> Apdu:
    """A command that takes nothing but the password: `REPEAT_RECEIPT`, `END_OF_DAY`, `SEND_OFFLINE`."""
    return Apdu(control=control, data=_bcd(password, 3))


def read_status(data: bytes) -> PaymentStatus:
    """Raises LineUnreadable: a field that nobody knows could hide the one that matters."""
    fields = dict(_fields(data))
    result, terminal = fields.get(_RESULT), fields.get(_TERMINAL)
    date, time = fields.get(_DATE), fields.get(_TIME)
    online = _tags(fields.get(_TLV, b"")).get(_ONLINE_FLAG)
    return PaymentStatus(
        result=None if result is None else result[0],
        amount_minor=_number(fields.get(_AMOUNT)),
        currency=_number(fields.get(_CURRENCY)),
        trace=_number(fields.get(_TRACE)),
        receipt=_number(fields.get(_RECEIPT)),
        terminal=None if terminal is None else terminal.hex(),
        original_trace=_number(fields.get(_ORIGINAL_TRACE)),
        stamp=None if date is None or time is None else f"{_number(date):04d}{_number(time):06d}",
        is_offline=online == _OFFLINE,
        is_online=online not in (None, _OFFLINE),
    )


def _money(amount_minor: int, currency: int) -> bytes:
    if not 0 < amount_minor <= AMOUNT_MAX:
        raise ValueError(f"expected an amount of 1 to {AMOUNT_MAX} minor units")
    return bytes([_AMOUNT]) + _bcd(f"{amount_minor:012d}", 6) + bytes([_CURRENCY]) + _bcd(f"{currency:04d}", 2)


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        field = data[at]
        start, size = _span(data, at + 1, field)
        if start + size > len(data):
            raise LineUnreadable(f"field {field:02x} is cut short")
        found.append((field, data[start : start + size]))
        at = start + size
    return found


def _span(data: bytes, at: int, field: int) -> tuple[int, int]:
    """Where the content of `field` starts, and its size."""
    if field in _SIZES:
        return at, _SIZES[field]
    if field == _TLV:
        return _tlv_span(data, at)
    digits = 2 if field in _LL else 3 if field in _LLL else 0
    length = data[at : at + digits]
    if not digits or len(length) < digits or any(byte & 0xF0 != 0xF0 or byte & 0x0F > 9 for byte in length):
        raise LineUnreadable(f"field {field:02x} is unknown or has no readable length")
    return at + digits, int("".join(str(byte & 0x0F) for byte in length))


def _tlv_span(data: bytes, at: int) -> tuple[int, int]:
    """BER length: below 80 itself; 81 and one byte, 82 and two, high first."""
    first = data[at] if at < len(data) else 0xFF
    if first < 0x80:
        return at + 1, first
    more = first & 0x7F
    if more not in (1, 2) or at + 1 + more > len(data):
        raise LineUnreadable("the TLV container has no readable length")
    return at + 1 + more, int.from_bytes(data[at + 1 : at + 1 + more], "big")


def _tags(container: bytes) -> dict[bytes, bytes]:
    """The data objects of a TLV container by tag, nested ones unread; a tag of which only x1F bits are set goes on."""
    found, at = {}, 0
    while at < len(container):
        start = at
        goes_on = container[at] & 0x1F == 0x1F
        at += 1
        while goes_on and at < len(container):
            goes_on, at = container[at] >= 0x80, at + 1
        content, size = _tlv_span(container, at)
        if content + size > len(container):
            raise LineUnreadable("a tag of the TLV container is cut short")
        found[container[start:at]] = container[content : content + size]
        at = content + size
    return found


def _bcd(digits: str, size: int) -> bytes:
    if len(digits) != 2 * size or not digits.isascii() or not digits.isdecimal():
        raise ValueError(f"expected {2 * size} digits")
    return bytes.fromhex(digits)


def _number(bcd: bytes | None) -> int | None:
    if bcd is None:
        return None
    if not bcd.hex().isdecimal():
        raise LineUnreadable("a number is not written in decimal digits")
    return int(bcd.hex())

"""A PIN pad that is not there: speaks ZVT over frames or bare, and keeps the money that it took.

Owns the PIN pad's side of a payment, written from the protocol and not from our driver: its framing is its own.
Switches make it decline, refuse, fall silent after so many messages, damage a frame, or contradict itself.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from typing import Final

_FRAME: Final = re.compile(rb"\x10\x02((?:[^\x10]|\x10\x10)*)\x10\x03(..)", re.DOTALL)
_OK: Final = bytes.fromhex("800000")
_COMPLETION: Final = bytes.fromhex("060f00")
_SEE_DISPLAY: Final = bytes.fromhex("04ff010a")
_MIRRORED: Final = [int(f"{value:08b}"[::-1], 2) for value in range(256)]
DECLINED: Final = 0x6C  # aborted by a key or a timeout
CARD_REFUSED: Final = 0x64


@dataclass(frozen=True, slots=True)
class TakenPayment:
    """Money that the PIN pad took."""

    amount: str  # twelve digits
    trace: int


@dataclass(slots=True)
class PinPadTwin:
    """The PIN pad.

    Attributes:
        is_framed: a serial line; else bare APDUs as over TCP.
        taken: the money, kept over every cut of the line.
        ends_with: a result code other than 0 ends the payment without money.
        refuses: an error code refuses each command.
        waits_for_card: nobody puts a card in, until the till gives up.
        silent_after: so many messages are sent, then the line is dead. None: it lives.
        damages: so many of the next frames have a wrong checksum.
        says_amount: stands in the status instead of the amount taken.
    """

    is_framed: bool = True
    taken: list[TakenPayment] = field(default_factory=list)
    ends_with: int = 0
    refuses: int | None = None
    waits_for_card: bool = False
    silent_after: int | None = None
    damages: int = 0
    says_amount: str | None = None
    naks: int = 0
    sent: int = 0
    _queue: list[bytes] = field(default_factory=list)
    _last: bytes = b""
    _left: bytes = b""

    def take(self, data: bytes) -> bytes:
        """What it answers to `data`."""
        self._left += data
        answers = b""
        while (event := self._next()) is not None:
            answers += self._hear(event)
        return answers

    def mend_line(self) -> None:
        """The cable is back; whatever was going on is over."""
        self.silent_after, self._left, self._queue = None, b"", []

    def _next(self) -> bytes | None:
        """An APDU, or one byte of the transport; None while it is incomplete."""
        if not self._left:
            return None
        if not self.is_framed:
            if len(self._left) < 3 or len(self._left) < 3 + self._left[2]:
                return None
            return self._cut(3 + self._left[2])
        if self._left[:1] in (b"\x06", b"\x15"):
            return self._cut(1)
        found = _FRAME.match(self._left)
        if found is None:
            return None
        self._cut(found.end())
        content = found[1].replace(b"\x10\x10", b"\x10")
        return content if found[2] == _crc(content) else b"\x00"

    def _cut(self, size: int) -> bytes:
        head, self._left = self._left[:size], self._left[size:]
        return head

    def _hear(self, event: bytes) -> bytes:
        acknowledged = b"\x06" if self.is_framed and len(event) > 1 else b""
        match event:
            case b"\x00":
                return b"\x15"
            case b"\x15":
                self.naks += 1
                return self._frame(self._last)
            case b"\x06":
                return self._send_next() if self._last == _OK else b""
            case _ if event[:2] == b"\x80\x00":
                return self._reach(acknowledged) + self._send_next()
            case _ if self.refuses is not None:
                return self._reach(acknowledged) + self._send(bytes([0x84, self.refuses, 0]))
            case _:
                return self._begin(event, acknowledged)

    def _begin(self, event: bytes, acknowledged: bytes) -> bytes:
        self._queue = self._steps(event)
        first = self._reach(acknowledged) + self._send(_OK)
        return first if self.is_framed else first + self._send_next()

    def _steps(self, command: bytes) -> list[bytes]:
        match command[:2]:
            case b"\x06\x01":
                return self._payment(command[4:10].hex())
            case b"\x06\x20":
                if not self.taken:
                    return [bytes.fromhex("061e0164")]
                last = self.taken[-1]
                return [_status(last.amount, last.trace), _COMPLETION]
            case b"\x06\xb0":
                return [bytes([0x06, 0x1E, 0x01, DECLINED])]
            case _:
                return [_COMPLETION]

    def _payment(self, amount: str) -> list[bytes]:
        if self.waits_for_card:
            return [_SEE_DISPLAY]
        if self.ends_with:
            return [_SEE_DISPLAY, bytes([0x06, 0x1E, 0x01, self.ends_with])]
        self.taken.append(TakenPayment(amount, len(self.taken) + 1))
        line = b"** PAID **"
        return [
            _SEE_DISPLAY,
            _SEE_DISPLAY,
            _status(self.says_amount or amount, len(self.taken)),
            bytes([0x06, 0xD1, 1 + len(line), 0]) + line,
            _COMPLETION,
        ]

    def _send_next(self) -> bytes:
        return self._send(self._queue.pop(0)) if self._queue else b""

    def _send(self, apdu: bytes) -> bytes:
        if self.silent_after is not None and self.sent >= self.silent_after:
            return b""
        self.sent += 1
        self._last = apdu
        return self._frame(apdu)

    def _reach(self, acknowledged: bytes) -> bytes:
        """An acknowledgement, unless the line is dead."""
        return b"" if self.silent_after is not None and self.sent >= self.silent_after else acknowledged

    def _frame(self, apdu: bytes) -> bytes:
        if not self.is_framed:
            return apdu
        crc = _crc(apdu)
        if self.damages:
            self.damages -= 1
            crc = bytes([crc[0] ^ 0xFF, crc[1]])
        return b"\x10\x02" + apdu.replace(b"\x10", b"\x10\x10") + b"\x10\x03" + crc


def _status(amount: str, trace: int) -> bytes:
    """Status-Information: result, amount, currency, trace, receipt, terminal, a masked card number, a name, a TLV."""
    data = bytes.fromhex("2700" + "04" + amount + "490978" + "0b" + f"{trace:06d}" + "87" + f"{trace:04d}")
    data += bytes.fromhex("2912345678" + "22f0f8" + "eeeeeeeeeeee1234") + b"\x8b\xf0\xf4VISA" + b"\x06\x03\x1f\x10\x00"
    return bytes([0x04, 0x0F, len(data)]) + data


def _crc(content: bytes) -> bytes:
    """CRC-16/KERMIT through the mirror of the one that the standard library has; low byte first."""
    mirrored = binascii.crc_hqx(bytes([_MIRRORED[byte] for byte in content + b"\x03"]), 0)
    return bytes([_MIRRORED[mirrored >> 8], _MIRRORED[mirrored & 0xFF]])

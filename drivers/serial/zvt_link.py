"""ZVT transport: whole APDUs over a serial line (frames with a checksum and an acknowledgement) or over TCP (bare).

Owns frames, acknowledgements and repetition of a damaged frame. Must never send an APDU twice once it was acknowledged.

Source: the ZVT transport protocol: DLE STX data DLE ETX CRC, DLE doubled in the data; ACK, NAK; over TCP the APDU as it
is. NOT VERIFIED against that text: read from public implementations, whose wire bytes are the vectors of the tests.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final, Protocol

from drivers.serial.errors import LineSilent, LineUnreadable
from drivers.serial.line import Line
from drivers.serial.zvt import Apdu, decode_apdu

DLE, STX, ETX, ACK, NAK = 0x10, 0x02, 0x03, 0x06, 0x15
SENDINGS_MAX: Final = 3
FRAME_BYTES_MAX: Final = 4_096
BYTE_S: Final = 1.0  # between two bytes of a frame that has begun
FRAME_S: Final = 10.0  # all of a frame that has begun; the largest takes 4.3 s at 9,600 baud
_POLYNOMIAL: Final = 0x8408  # CRC-16/CCITT, bits reversed, start value 0


class ApduLink(Protocol):
    """Whole APDUs both ways."""

    def send(self, apdu: Apdu, deadline_s: float) -> None:
        """Raises LineSilent, LineUnreadable, LineAway: it may have arrived all the same."""
        ...

    def has_begun(self, deadline_s: float) -> bool:
        """Whether the next APDU's first byte came within `deadline_s`; it is kept. Raises LineAway."""
        ...

    def receive(self, deadline_s: float) -> Apdu:
        """Raises LineSilent, LineUnreadable, LineAway."""
        ...


class _Begun:
    """A line whose next byte may have been read already, by looking whether something comes."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._first = b""

    def has_begun(self, deadline_s: float) -> bool:
        with suppress(LineSilent):
            self._first = self._first or self._line.read(1, deadline_s)
        return bool(self._first)

    def _read(self, count: int, deadline_s: float) -> bytes:
        first, self._first = self._first, b""
        return first + (self._line.read(count - len(first), deadline_s) if count > len(first) else b"")


class SerialLink(_Begun):
    """Frames on a serial line."""

    def send(self, apdu: Apdu, deadline_s: float) -> None:
        """A frame, again when the other side says NAK."""
        ends_at = time.monotonic() + deadline_s
        for _ in range(SENDINGS_MAX):
            self._line.write(frame(apdu.encode()), deadline_s)
            answer = self._read(1, max(0.0, ends_at - time.monotonic()))[0]
            if answer == ACK:
                return
            if answer != NAK:
                raise LineUnreadable(f"expected ACK or NAK, saw 0x{answer:02x}")
        raise LineUnreadable(f"the frame was not understood {SENDINGS_MAX} times")

    def receive(self, deadline_s: float) -> Apdu:
        """A frame whose checksum fits; NAK asks for it again."""
        for _ in range(SENDINGS_MAX):
            content = self._frame(deadline_s)
            if content is not None:
                self._line.write(bytes([ACK]), BYTE_S)
                return decode_apdu(content)
            self._line.write(bytes([NAK]), BYTE_S)
        raise LineUnreadable(f"a frame was damaged {SENDINGS_MAX} times")

    def _frame(self, deadline_s: float) -> bytes | None:
        """The content of the next frame; None when it is damaged."""
        if self._read(1, deadline_s)[0] != DLE or self._read(1, BYTE_S)[0] != STX:
            raise LineUnreadable("expected DLE STX")
        content, ends_at = bytearray(), time.monotonic() + FRAME_S
        while len(content) <= FRAME_BYTES_MAX:
            if time.monotonic() > ends_at:
                raise LineSilent(f"a frame did not end within {FRAME_S} s")
            byte = self._read(1, BYTE_S)[0]
            if byte == DLE:
                byte = self._read(1, BYTE_S)[0]
                if byte == ETX:
                    sent = int.from_bytes(self._read(2, BYTE_S), "little")
                    return bytes(content) if sent == checksum(bytes(content)) else None
                if byte != DLE:
                    raise LineUnreadable(f"DLE before 0x{byte:02x} means nothing")
            content.append(byte)
        raise LineUnreadable(f"a frame of more than {FRAME_BYTES_MAX} bytes")


class TcpLink(_Begun):
    """APDUs one after another on a connection; TCP does the rest."""

    def send(self, apdu: Apdu, deadline_s: float) -> None:
        """The APDU as it is."""
        self._line.write(apdu.encode(), deadline_s)

    def receive(self, deadline_s: float) -> Apdu:
        """The next APDU."""
        head = self._read(3, deadline_s)
        size = head[2]
        if size == 0xFF:
            long = self._read(2, BYTE_S)
            head, size = head + long, int.from_bytes(long, "little")
        if size > FRAME_BYTES_MAX:
            raise LineUnreadable(f"an APDU of more than {FRAME_BYTES_MAX} bytes")
        return decode_apdu(head + (self._read(size, BYTE_S) if size else b""))


def frame(content: bytes) -> bytes:
    """DLE STX, the content with each DLE doubled, DLE ETX, checksum with its low byte first."""
    doubled = content.replace(bytes([DLE]), bytes([DLE, DLE]))
    return bytes([DLE, STX]) + doubled + bytes([DLE, ETX]) + checksum(content).to_bytes(2, "little")


def checksum(content: bytes) -> int:
    """Over the content before doubling, and ETX."""
    crc = 0
    for byte in content + bytes([ETX]):
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc

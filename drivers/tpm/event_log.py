"""What was measured into PCRs since power-on: the firmware's event log, and systemd's log of what came after it.

Owns reading both from bytes alone, on any computer, and replaying them. Believes nothing but digests: an event's type
and text are whatever the machine wrote, and only a replay that ends at quoted values makes its digests true.

Source: TCG PC Client Platform Firmware Profile 1.05, 10.2 (crypto-agile log: little-endian, TCG_PCR_EVENT2 behind one
TCG_PCClientPCREvent); systemd, "TPM2 PCR Measurements Made by systemd" (JSON-SEQ, RFC 7464).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

LOG_BYTES_MAX: Final = 512 * 1024
"""Firmware of real machines writes 20 to 120 kB."""
EVENTS_MAX: Final = 4_096
PCR_COUNT: Final = 24
_NO_ACTION: Final = 3
_SHA1, _SHA256 = 0x0004, 0x000B
_SPECIFICATION: Final = b"Spec ID Event03\x00"
_LOCALITY: Final = b"StartupLocality\x00"
_LOCALITIES: Final = (0, 3, 4)  # TPM2_Startup from there leaves that number in PCR 0 (TPM 2.0 part 1, 34.3)
_DIGEST_SIZES: Final = {_SHA1: 20, _SHA256: 32, 0x000C: 48, 0x000D: 64, 0x0012: 32}
_RECORD_BEGINS: Final = b"\x1e"


class EventLogRefused(Exception):
    """The log is none, or was cut or changed so that it cannot be read; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One measurement: `digest` (SHA-256) was extended into `pcr`."""

    pcr: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """Measurements in their order.

    Attributes:
        startup_locality: from where the TPM was started; PCR 0 began with it.
    """

    events: tuple[Event, ...]
    startup_locality: int = 0

    def then(self, later: EventLog) -> EventLog:
        """Both logs, one behind the other."""
        return EventLog(events=self.events + later.events, startup_locality=self.startup_locality)

    def replay(self, pcrs: Iterable[int]) -> dict[int, bytes]:
        """SHA-256 values that `pcrs` have after all of this."""
        values = {pcr: _initial(pcr, self.startup_locality) for pcr in pcrs}
        for event in self.events:
            if event.pcr in values:
                values[event.pcr] = hashlib.sha256(values[event.pcr] + event.digest).digest()
        return values

    def digests(self, pcr: int) -> tuple[bytes, ...]:
        """What was extended into `pcr`, in order."""
        return tuple(event.digest for event in self.events if event.pcr == pcr)


def parse_firmware_log(encoded: bytes) -> EventLog:
    """Read `binary_bios_measurements`.

    Raises:
        EventLogRefused: not a crypto-agile log with SHA-256, cut short, or followed by other bytes.
    """
    if len(encoded) > LOG_BYTES_MAX:
        raise EventLogRefused(f"expected at most {LOG_BYTES_MAX} bytes, saw {len(encoded)}")
    read = _Reader(encoded)
    sizes = _digest_sizes(read)
    events: list[Event] = []
    locality: int | None = None
    for count in range(EVENTS_MAX + 1):
        if read.is_at_end:
            return EventLog(events=tuple(events), startup_locality=locality or 0)
        if count == EVENTS_MAX:
            break
        pcr, kind = read.u32(), read.u32()
        digest = _sha256_of(read, sizes)
        content = read.take(read.u32())
        if pcr >= PCR_COUNT:
            raise EventLogRefused(f"event {count} is of PCR {pcr}, and there are {PCR_COUNT}")
        if kind != _NO_ACTION:  # the one kind that firmware notes and never extends
            events.append(Event(pcr=pcr, digest=digest))
        elif content.startswith(_LOCALITY):
            if locality is not None or any(event.pcr == 0 for event in events):
                raise EventLogRefused(f"event {count} names the start's locality behind what it began with")
            locality = _locality(content)
    raise EventLogRefused(f"expected at most {EVENTS_MAX} events")


class _Digest(msgspec.Struct, frozen=True, rename="camel"):
    hash_alg: str
    digest: str


class _Record(msgspec.Struct, frozen=True):
    pcr: int
    digests: tuple[_Digest, ...]


def parse_userspace_log(encoded: bytes) -> EventLog:
    """Read `/run/log/systemd/tpm2-measure.log`.

    Raises:
        EventLogRefused: not JSON-SEQ, a record without PCR or SHA-256 digest, or one cut short.
    """
    if len(encoded) > LOG_BYTES_MAX:
        raise EventLogRefused(f"expected at most {LOG_BYTES_MAX} bytes, saw {len(encoded)}")
    before, *records = encoded.split(_RECORD_BEGINS)
    if before or len(records) > EVENTS_MAX:
        raise EventLogRefused(f"expected at most {EVENTS_MAX} records, each behind a record separator")
    return EventLog(events=tuple(_userspace_event(number, record) for number, record in enumerate(records)))


def _userspace_event(number: int, record: bytes) -> Event:
    # RFC 7464, 2.4: without its newline a record may have been cut short.
    if not record.endswith(b"\n"):
        raise EventLogRefused(f"record {number} is cut short")
    try:
        read = msgspec.json.decode(record, type=_Record)
        (digest,) = (bytes.fromhex(each.digest) for each in read.digests if each.hash_alg == "sha256")
    except (msgspec.MsgspecError, ValueError) as cause:
        raise EventLogRefused(f"record {number} is no measurement with one SHA-256 digest") from cause
    if len(digest) != _DIGEST_SIZES[_SHA256] or not 0 <= read.pcr < PCR_COUNT:
        raise EventLogRefused(f"record {number} has no PCR or digest of SHA-256's size")
    return Event(pcr=read.pcr, digest=digest)


def _digest_sizes(read: _Reader) -> dict[int, int]:
    """The header, in the form of the older log: which hashes each event carries."""
    pcr, kind, digest = read.u32(), read.u32(), read.take(_DIGEST_SIZES[_SHA1])
    header = _Reader(read.take(read.u32()))
    if (pcr, kind, digest) != (0, _NO_ACTION, bytes(20)) or header.take(len(_SPECIFICATION)) != _SPECIFICATION:
        raise EventLogRefused("expected a crypto-agile log, whose first event is Spec ID Event03")
    header.take(8)  # platform class, version, errata, size of an integer
    sizes: dict[int, int] = {}
    for _ in range(header.u32()):
        algorithm, size = header.u16(), header.u16()
        if algorithm in sizes or _DIGEST_SIZES.get(algorithm) != size:
            raise EventLogRefused(f"hash 0x{algorithm:04x} of {size} bytes is unknown, or named twice")
        sizes[algorithm] = size
    header.take(header.u8())  # the vendor's own
    if not header.is_at_end or _SHA256 not in sizes:
        raise EventLogRefused("the header has no SHA-256, or bytes behind its end")
    return sizes


def _sha256_of(read: _Reader, sizes: dict[int, int]) -> bytes:
    """An event's digests are exactly those that the header announced, each once."""
    digests: dict[int, bytes] = {}
    count = read.u32()
    if count != len(sizes):
        raise EventLogRefused(f"expected {len(sizes)} digests of an event, saw {count}")
    for _ in range(count):
        algorithm = read.u16()
        if algorithm not in sizes or algorithm in digests:
            raise EventLogRefused(f"a digest of hash 0x{algorithm:04x}, which was not announced or came before")
        digests[algorithm] = read.take(sizes[algorithm])
    return digests[_SHA256]


def _locality(content: bytes) -> int:
    number = content[len(_LOCALITY) :]
    if len(number) != 1 or number[0] not in _LOCALITIES:
        raise EventLogRefused("the start's locality is none of 0, 3 and 4")
    return number[0]


def _initial(pcr: int, locality: int) -> bytes:
    """TCG PC Client Platform TPM Profile 1.05, 4.7.2: PCRs 17 to 22 are for a late launch, and begin with ones."""
    if 17 <= pcr <= 22:
        return b"\xff" * 32
    return bytes(31) + bytes([locality if pcr == 0 else 0])


class _Reader:
    """Little-endian fields one after another; running out is a refusal."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._encoded)

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._encoded):
            raise EventLogRefused(f"the log ends in the middle of a field, at byte {len(self._encoded)}")
        self._at += size
        return self._encoded[self._at - size : self._at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

"""Event logs of machines that never were: byte by byte, so that tests may write any lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

EV_NO_ACTION, EV_SEPARATOR, EV_IPL = 0x03, 0x04, 0x0D
SHA1, SHA256 = 0x0004, 0x000B
_SIZES = {SHA1: 20, SHA256: 32}


def spec_event(algorithms: Sequence[int] = (SHA1, SHA256), *, signature: bytes = b"Spec ID Event03\x00") -> bytes:
    """The first event: which hashes each of the others carries."""
    sizes = b"".join(_u16(algorithm) + _u16(_SIZES[algorithm]) for algorithm in algorithms)
    content = signature + bytes(4) + b"\x00\x02\x00\x02" + _u32(len(algorithms)) + sizes + b"\x00"
    return _u32(0) + _u32(EV_NO_ACTION) + bytes(20) + _u32(len(content)) + content


def event(
    pcr: int, content: bytes, *, kind: int = EV_IPL, algorithms: Sequence[int] = (SHA1, SHA256), size: int | None = None
) -> bytes:
    """One measurement of `content`."""
    digests = b"".join(
        _u16(each) + (hashlib.sha1(content) if each == SHA1 else hashlib.sha256(content)).digest()
        for each in algorithms
    )
    return (
        _u32(pcr)
        + _u32(kind)
        + _u32(len(algorithms))
        + digests
        + _u32(len(content) if size is None else size)
        + content
    )


def firmware_log(*events: bytes) -> bytes:
    """A crypto-agile log with SHA-1 and SHA-256."""
    return spec_event() + b"".join(events)


def userspace_log(*measured: tuple[int, bytes]) -> bytes:
    """What systemd writes: PCR and words that were measured, in JSON-SEQ."""
    records = []
    for pcr, words in measured:
        digest = {"hashAlg": "sha256", "digest": hashlib.sha256(words).hexdigest()}
        content = {"string": words.decode(), "bootId": "0" * 32, "timestamp": 1, "eventType": "phase"}
        record = {"pcr": pcr, "digests": [digest], "content_type": "systemd", "content": content}
        records.append(b"\x1e" + json.dumps(record).encode() + b"\n")
    return b"".join(records)


def extended(*contents: bytes, begins: bytes = bytes(32)) -> bytes:
    """The value of a PCR into which `contents` were measured."""
    value = begins
    for content in contents:
        value = hashlib.sha256(value + hashlib.sha256(content).digest()).digest()
    return value


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")

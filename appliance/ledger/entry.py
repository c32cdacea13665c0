"""The bytes of one entry, version 1: written by splicing, read by hand, refused unless canonical.

Owns the entry format and its two hashes. Must never know SQLite, the tree or what a kind means: the bytes are
frozen (`docs/formats/entry.md`), so nothing that may change belongs here.

* The *stem* (time, kind, actor, body, salt) is encoded by the caller's thread, before the queue; the writer only
  puts seq before it and prev behind it. Encoding in the writer cost two thirds of its speed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NewType

from appliance.crypto.cbor import head
from appliance.model.errors import Corrupt
from appliance.model.invariants import ensure

EntryHash = NewType("EntryHash", bytes)
EntryStem = NewType("EntryStem", bytes)

ENTRY_BYTES_MAX = 65_536
ENVELOPE_BYTES_MAX = 2 + 9 + 34  # array head and version, seq, prev: what the writer adds to a stem
INTEGER_MAX = 2**63 - 1  # SQLite's largest integer
KIND_BYTES_MAX = 64
ACTOR_BYTES_MAX = 128
SALT_BYTES = 16
HASH_BYTES = 32
GENESIS_PREV = EntryHash(bytes(HASH_BYTES))

_ARRAY_OF_8_VERSION_1 = b"\x88\x01"
_BSTR_32 = b"\x58\x20"
_BSTR_16 = b"\x50"
_KIND = re.compile(rb"\A[a-z][a-z0-9_.-]{0,63}\Z")
_UNSIGNED, _BYTES, _TEXT, _MAP = 0, 2, 3, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decoded entry; `encoded` is the exact input."""

    seq: int
    time_ms: int
    kind: str
    actor: str
    body: bytes
    salt: bytes
    prev: EntryHash
    encoded: bytes


def encode_stem(*, time_ms: int, kind: str, actor: str, body: bytes, salt: bytes) -> EntryStem:
    """Encode what is known before the entry has a place; `ensure` guards each rule of the format."""
    kind_bytes, actor_bytes = kind.encode(), actor.encode()
    ensure(0 <= time_ms <= INTEGER_MAX, "entry time fits 63 bits")
    ensure(_KIND.match(kind_bytes) is not None, "entry kind is 1 to 64 bytes of [a-z][a-z0-9_.-]*")
    ensure(_is_actor(actor_bytes), "entry actor is 1 to 128 bytes without control characters")
    ensure(body[:1] != b"" and body[0] >> 5 == _MAP, "entry body is a CBOR map")
    ensure(len(salt) == SALT_BYTES, "entry salt is 16 bytes")
    stem = b"".join(
        (
            head(_UNSIGNED, time_ms),
            head(_TEXT, len(kind_bytes)),
            kind_bytes,
            head(_TEXT, len(actor_bytes)),
            actor_bytes,
            head(_BYTES, len(body)),
            body,
            _BSTR_16,
            salt,
        )
    )
    ensure(len(stem) + ENVELOPE_BYTES_MAX <= ENTRY_BYTES_MAX, "an entry is at most 65536 bytes")
    return EntryStem(stem)


def splice(seq: int, stem: bytes, prev: bytes) -> bytes:
    """Put a stem into its place in the log."""
    return b"".join((_ARRAY_OF_8_VERSION_1, head(_UNSIGNED, seq), stem, _BSTR_32, prev))


def entry_hash(encoded: bytes) -> EntryHash:
    """What the next entry names as `prev`."""
    return EntryHash(hashlib.sha256(encoded).digest())


def decode(encoded: bytes) -> Entry:
    """Read one entry strictly.

    Raises:
        Corrupt: `entry_malformed`, naming the first rule of `docs/formats/entry.md` that is broken.
    """
    if len(encoded) > ENTRY_BYTES_MAX:
        raise _malformed(f"at most {ENTRY_BYTES_MAX} bytes, saw {len(encoded)}")
    if encoded[:2] != _ARRAY_OF_8_VERSION_1:
        raise _malformed("an array of eight that starts with version 1")
    seq, at = _read_head(encoded, 2, _UNSIGNED)
    time_ms, at = _read_head(encoded, at, _UNSIGNED)
    kind, at = _read_string(encoded, at, _TEXT)
    actor, at = _read_string(encoded, at, _TEXT)
    body, at = _read_string(encoded, at, _BYTES)
    salt, at = _read_string(encoded, at, _BYTES)
    prev, at = _read_string(encoded, at, _BYTES)
    if at != len(encoded):
        raise _malformed(f"nothing behind prev, saw {len(encoded) - at} more bytes")
    if seq > INTEGER_MAX or time_ms > INTEGER_MAX:
        raise _malformed("seq and time below 2^63")
    if _KIND.match(kind) is None or not _is_actor(actor):
        raise _malformed("kind and actor of the allowed characters and length")
    if not body or body[0] >> 5 != _MAP:
        raise _malformed("a body that holds a map")
    if len(salt) != SALT_BYTES or len(prev) != HASH_BYTES:
        raise _malformed("16 bytes of salt and 32 bytes of prev")
    return Entry(
        seq=seq,
        time_ms=time_ms,
        kind=kind.decode(),
        actor=actor.decode(),
        body=body,
        salt=salt,
        prev=EntryHash(prev),
        encoded=encoded,
    )


def _read_head(encoded: bytes, at: int, major: int) -> tuple[int, int]:
    """The value of a head and the offset behind it; refuses another major type and any longer form."""
    if at >= len(encoded) or encoded[at] >> 5 != major:
        raise _malformed(f"CBOR major type {major} at byte {at}")
    information = encoded[at] & 0x1F
    if information < 24:
        return information, at + 1
    if information > 27:
        raise _malformed(f"a definite length at byte {at}")
    size = 1 << (information - 24)
    end = at + 1 + size
    value = int.from_bytes(encoded[at + 1 : end], "big")
    # A shorter form exists when the value also fits half the bytes; one byte must hold at least 24.
    if end > len(encoded) or value < (24 if size == 1 else 1 << (4 * size)):
        raise _malformed(f"the shortest whole head at byte {at}")
    return value, end


def _read_string(encoded: bytes, at: int, major: int) -> tuple[bytes, int]:
    size, start = _read_head(encoded, at, major)
    end = start + size
    if end > len(encoded):
        raise _malformed(f"a whole string at byte {at}")
    return encoded[start:end], end


def _is_actor(actor: bytes) -> bool:
    if not 1 <= len(actor) <= ACTOR_BYTES_MAX:
        return False
    try:
        text = actor.decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable()


def _malformed(expected: str) -> Corrupt:
    return Corrupt("entry_malformed", f"expected {expected}")

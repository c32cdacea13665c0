"""The body of `add-checkpoint`: what a log sends to a witness, written by one side and read by the other.

Owns the body's bytes and their bounds, and the name under which a witness shows a log's newest checkpoint. Never
judges the proof or the note in it.

Source: docs/formats/cosignature.md, "Asking a witness"; https://c2sp.org/tlog-witness.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

BODY_BYTES_MAX: Final = 128 << 10
PROOF_HASHES_MAX: Final = 63
SIZE_TYPE: Final = "text/x.tlog.size"
"""Media type of a 409's body: the size that the witness cosigned last, in decimal, and a newline."""
_OLD: Final = re.compile(rb"\Aold (0|[1-9][0-9]{0,18})\Z")
_SIZE: Final = re.compile(rb"\A(0|[1-9][0-9]{0,18})\n\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """One request.

    Attributes:
        old_size: what the witness cosigned last, as the log believes; 0 for nothing.
        proof: RFC 9162 consistency proof from `old_size` to the note's size, 32 bytes each.
        note: the checkpoint as a signed note.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """The body."""
        ensure(len(self.proof) <= PROOF_HASHES_MAX, "a tree of 2^63 leaves has proofs of at most 63 hashes")
        hashes = b"".join(base64.b64encode(value) + b"\n" for value in self.proof)
        return b"old %d\n" % self.old_size + hashes + b"\n" + self.note

    @classmethod
    def decode(cls, body: bytes) -> AddCheckpoint:
        """Read a body. Raises Rejected `add_checkpoint_malformed`."""
        head, separator, note = body.partition(b"\n\n")
        old, *hashes = head.split(b"\n")
        found = _OLD.match(old)
        if len(body) > BODY_BYTES_MAX or not separator or not found or len(hashes) > PROOF_HASHES_MAX:
            raise _malformed("an old size, at most 63 proof lines, an empty line and a note")
        return cls(old_size=int(found[1]), proof=_hashes(hashes), note=note)


def origin_hash(origin: str) -> str:
    """How a witness's read address names a log: `GET <prefix>/<origin hash>/checkpoint`."""
    return hashlib.sha256(origin.encode()).hexdigest()


def encode_size(size: int) -> bytes:
    """The body of a 409."""
    return b"%d\n" % size


def decode_size(body: bytes) -> int:
    """Read the body of a 409. Raises Rejected `add_checkpoint_malformed`."""
    found = _SIZE.match(body)
    if not found:
        raise _malformed("a size in decimal and a newline")
    return int(found[1])


def _hashes(lines: Sequence[bytes]) -> tuple[bytes, ...]:
    try:
        hashes = tuple(base64.b64decode(line, validate=True) for line in lines)
    except binascii.Error as cause:
        raise _malformed("base64") from cause
    if any(len(value) != 32 for value in hashes):
        raise _malformed("hashes of 32 bytes")
    return hashes


def _malformed(expected: str) -> Rejected:
    return Rejected("add_checkpoint_malformed", f"expected {expected}")

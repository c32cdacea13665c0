"""The bytes of a `.ots` file and of a calendar's answer.

What is decoded is bounded before it is built: bytes, depth, length of a message. What is encoded is sorted as the
reference implementation sorts, so that both write the same file.

Source: docs/formats/timestamp.md; python-opentimestamps, `core/timestamp.py`, `core/op.py` and `core/notary.py`.
"""

from __future__ import annotations

from typing import Final, assert_never

from appliance.evidence.ots import (
    SHA256,
    Attestation,
    Branch,
    Foreign,
    InBlock,
    Operation,
    Promised,
    Proof,
    Step,
    Timestamp,
)
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

PROOF_BYTES_MAX: Final = 64 << 10  # ours have 250 to 2,000; a proof merged from many calendars stays below 20,000
DEPTH_MAX: Final = 256  # the reference implementation's
MESSAGE_BYTES_MAX: Final = 4096  # the same; an operand is at most as long
PAYLOAD_BYTES_MAX: Final = 8192
URI_BYTES_MAX: Final = 1000
DIGEST_BYTES: Final = 32

_MAGIC: Final = b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94"
_VERSION: Final = 1
_ATTESTATION: Final = 0x00
_FORK: Final = 0xFF
_TAG_PENDING: Final = bytes.fromhex("83dfe30d2ef90c8e")
_TAG_BITCOIN: Final = bytes.fromhex("0588960d73d71901")
_TAG_BYTES: Final = 8
_URI_BYTES: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._/:")


def encode_proof(proof: Proof) -> bytes:
    """The bytes of the `.ots` file."""
    ensure(len(proof.digest) == DIGEST_BYTES, "a proof begins with a SHA-256 digest")
    return _MAGIC + bytes([_VERSION, Operation.SHA256]) + proof.digest + encode_timestamp(proof.timestamp)


def decode_proof(encoded: bytes) -> Proof:
    """The proof in a `.ots` file.

    Raises:
        Rejected: `timestamp_malformed`, or `timestamp_unsupported` for another version, file hash or step.
    """
    reader = _Reader(encoded)
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise _malformed("expected the header of an OpenTimestamps proof")
    if (version := reader.number()) != _VERSION:
        raise Rejected("timestamp_unsupported", f"expected version {_VERSION}, saw {version}")
    if (operation := reader.byte()) != Operation.SHA256:
        raise Rejected("timestamp_unsupported", f"expected the SHA-256 of a file, saw operation {operation:#04x}")
    return Proof(timestamp=reader.whole_timestamp(reader.take(DIGEST_BYTES)))


def encode_timestamp(timestamp: Timestamp) -> bytes:
    """The bytes behind the message, as a calendar sends them; the message itself is not in them."""
    items = [
        bytes([_ATTESTATION]) + _tag(each) + _sized(_payload(each))
        for each in sorted(timestamp.attestations, key=_order)
    ]
    items += [_encode_branch(branch) for branch in sorted(timestamp.branches, key=lambda branch: branch.step)]
    ensure(bool(items), "a timestamp ends in an attestation")
    return b"".join(bytes([_FORK]) + item for item in items[:-1]) + items[-1]


def decode_timestamp(encoded: bytes, message: bytes) -> Timestamp:
    """The timestamp of `message`, from what a calendar sent.

    Raises:
        Rejected: as `decode_proof`.
    """
    return _Reader(encoded).whole_timestamp(message)


def _encode_branch(branch: Branch) -> bytes:
    step = branch.step
    operand = b"" if step.operation is Operation.SHA256 else _sized(step.operand)
    return bytes([step.operation]) + operand + encode_timestamp(branch.rest)


class _Reader:
    """Takes bytes from the front; every way to run out or beyond a bound is `timestamp_malformed`."""

    def __init__(self, encoded: bytes) -> None:
        if len(encoded) > PROOF_BYTES_MAX:
            raise _malformed(f"expected at most {PROOF_BYTES_MAX} bytes, saw {len(encoded)}")
        self._encoded = encoded
        self._at = 0

    def whole_timestamp(self, message: bytes) -> Timestamp:
        timestamp = self._timestamp(message, DEPTH_MAX)
        if self._at != len(self._encoded):
            raise _malformed(f"{len(self._encoded) - self._at} bytes lie behind the proof")
        return timestamp

    def _timestamp(self, message: bytes, depth: int) -> Timestamp:
        if depth == 0:
            raise _malformed(f"more than {DEPTH_MAX} steps deep")
        attestations: set[Attestation] = set()
        branches: dict[Step, Timestamp] = {}
        is_last = False
        while not is_last:
            tag = self.byte()
            is_last = tag != _FORK
            if not is_last:
                tag = self.byte()
            if tag == _ATTESTATION:
                attestations.add(self._attestation())
                continue
            step = self._step(tag)
            after = step.apply(message)
            if len(after) > MESSAGE_BYTES_MAX:
                raise _malformed(f"a message longer than {MESSAGE_BYTES_MAX} bytes")
            if step in branches:
                raise _malformed("the same step twice")
            branches[step] = self._timestamp(after, depth - 1)
        return Timestamp(
            message=message,
            attestations=frozenset(attestations),
            branches=tuple(Branch(step=step, rest=branches[step]) for step in sorted(branches)),
        )

    def _step(self, tag: int) -> Step:
        if tag == Operation.SHA256:
            return SHA256
        if tag not in (Operation.APPEND, Operation.PREPEND):
            raise Rejected("timestamp_unsupported", f"expected SHA-256, append or prepend, saw operation {tag:#04x}")
        operand = self._sized(MESSAGE_BYTES_MAX)
        if not operand:
            raise _malformed("nothing to append or prepend")
        return Step(operation=Operation(tag), operand=operand)

    def _attestation(self) -> Attestation:
        tag = self.take(_TAG_BYTES)
        payload = self._sized(PAYLOAD_BYTES_MAX)
        inner = _Reader(payload)
        if tag == _TAG_BITCOIN:
            attestation: Attestation = InBlock(height=inner.number())
        elif tag == _TAG_PENDING:
            uri = inner._sized(URI_BYTES_MAX)
            if not _URI_BYTES.issuperset(uri):
                raise _malformed("a calendar's address with other characters than letters, digits and -._/:")
            attestation = Promised(uri=uri.decode())
        else:
            return Foreign(tag=tag, payload=payload)
        if inner._at != len(payload):
            raise _malformed("bytes behind an attestation")
        return attestation

    def _sized(self, size_max: int) -> bytes:
        size = self.number()
        if size > size_max:
            raise _malformed(f"expected at most {size_max} bytes, saw {size}")
        return self.take(size)

    def number(self) -> int:
        """Little-endian base 128, below 2^63."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise _malformed("a number of more than 63 bits")

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, size: int) -> bytes:
        taken = self._encoded[self._at : self._at + size]
        if len(taken) != size:
            raise _malformed(f"the proof ends {size - len(taken)} bytes too early")
        self._at += size
        return taken


def _tag(attestation: Attestation) -> bytes:
    match attestation:
        case InBlock():
            return _TAG_BITCOIN
        case Promised():
            return _TAG_PENDING
        case Foreign():
            return attestation.tag
    assert_never(attestation)


def _payload(attestation: Attestation) -> bytes:
    match attestation:
        case InBlock():
            return _number(attestation.height)
        case Promised():
            return _sized(attestation.uri.encode())
        case Foreign():
            return attestation.payload
    assert_never(attestation)


def _order(attestation: Attestation) -> tuple[bytes, int, bytes]:
    # The reference implementation sorts heights as numbers, not as the bytes they are written in.
    height = attestation.height if isinstance(attestation, InBlock) else 0
    return _tag(attestation), height, _payload(attestation)


def _number(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes([*encoded, value])


def _sized(value: bytes) -> bytes:
    return _number(len(value)) + value


def _malformed(detail: str) -> Rejected:
    return Rejected("timestamp_malformed", detail)

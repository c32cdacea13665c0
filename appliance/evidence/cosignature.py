"""Cosignatures: a witness's word that a head is the largest consistent one it has seen of a log.

Owns the C2SP cosignature bytes of both types, verifier keys, and the k-of-n rule. Must never count a witness half: one
that is configured with two keys (Ed25519 and ML-DSA-44) counts when both signed.

* Signature lines of keys that nobody configured are skipped, as the specification asks. A line of a configured key that
  does not verify refuses all lines: somebody tampers.
* `text` is always the note's signed text: origin, size and root, three lines, each with its newline.

Source: docs/formats/cosignature.md; https://c2sp.org/tlog-cosignature, https://c2sp.org/signed-note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.crypto import cose, signature
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

LINES_BYTES_MAX: Final = 64 << 10
LINES_MAX: Final = 32
TIME_MAX: Final = 2**63 - 1
NAME_BYTES_MAX: Final = 255
_DASH: Final = "\u2014"
_NAME: Final = re.compile(r"\A[!-*,-~]{1,255}\Z")  # printable ASCII without space and plus
_SUBTREE_LABEL: Final = b"subtree/v1\n\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Type:
    """A signature type of the specification: its byte, and its keys' SubjectPublicKeyInfo before the raw key."""

    byte: bytes
    spki_prefix: bytes
    key_size: int


_TYPES: Final = {
    cose.ED25519: _Type(byte=b"\x04", spki_prefix=bytes.fromhex("302a300506032b6570032100"), key_size=32),
    cose.ML_DSA_44: _Type(
        byte=b"\x06", spki_prefix=bytes.fromhex("30820532300b06096086480165030403110382052100"), key_size=1312
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessKey:
    """A key of a witness, under the name that its lines carry.

    Attributes:
        algorithm: COSE id, Ed25519 or ML-DSA-44.
        public_key: SubjectPublicKeyInfo, DER.
    """

    name: str
    algorithm: int
    public_key: bytes

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise _key_malformed("a name of printable ASCII without space and plus")
        if self.algorithm not in _TYPES or not self.public_key.startswith(_TYPES[self.algorithm].spki_prefix):
            raise _key_malformed("an Ed25519 or ML-DSA-44 key")
        if len(self._raw) != _TYPES[self.algorithm].key_size:
            raise _key_malformed(f"{_TYPES[self.algorithm].key_size} key bytes")

    @property
    def key_hash(self) -> bytes:
        """The four bytes that a line of this key begins with."""
        material = self.name.encode() + b"\n" + _TYPES[self.algorithm].byte + self._raw
        return hashlib.sha256(material).digest()[:4]

    @property
    def vkey(self) -> str:
        """The key as C2SP verifier key text: name+hash+base64(type || key)."""
        encoded = base64.b64encode(_TYPES[self.algorithm].byte + self._raw).decode()
        return f"{self.name}+{self.key_hash.hex()}+{encoded}"

    @classmethod
    def from_vkey(cls, text: str) -> WitnessKey:
        """Read a verifier key. Raises Rejected `witness_key_malformed`."""
        name, _, rest = text.partition("+")
        hash_hex, _, encoded = rest.partition("+")
        raw = _from_base64(encoded, _key_malformed)
        for algorithm, kind in _TYPES.items():
            if raw[:1] == kind.byte:
                key = cls(name=name, algorithm=algorithm, public_key=kind.spki_prefix + raw[1:])
                if key.key_hash.hex() != hash_hex:
                    raise _key_malformed(f"the hash {key.key_hash.hex()}")
                return key
        raise _key_malformed("type 0x04 (Ed25519) or 0x06 (ML-DSA-44)")

    @property
    def _raw(self) -> bytes:
        return self.public_key[len(_TYPES[self.algorithm].spki_prefix) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A verified line: at `time_s` (Unix seconds) the key's witness knew no larger head of the log."""

    key: WitnessKey
    time_s: int
    line: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessPolicy:
    """Who may vouch, and how many must: `needed` distinct names out of those that have keys here."""

    keys: tuple[WitnessKey, ...]
    needed: int

    def __post_init__(self) -> None:
        if len({(key.name, key.key_hash) for key in self.keys}) != len(self.keys):
            raise Rejected("witness_policy_invalid", "expected each key of a witness once")
        if not 0 <= self.needed <= len(self.names):
            raise Rejected("witness_policy_invalid", f"expected at most {len(self.names)} witnesses to be needed")

    @property
    def names(self) -> tuple[str, ...]:
        """Every witness, in the order of the policy."""
        return tuple(dict.fromkeys(key.name for key in self.keys))

    def keys_of(self, name: str) -> tuple[WitnessKey, ...]:
        """Every key of one witness."""
        return tuple(key for key in self.keys if key.name == name)

    def witnessed(self, found: Sequence[Cosignature]) -> tuple[str, ...]:
        """Names whose every key is among `found`."""
        signed = {cosignature.key for cosignature in found}
        return tuple(name for name in self.names if signed.issuperset(self.keys_of(name)))


def cosign(text: bytes, *, key: WitnessKey, sign: Callable[[bytes], bytes], time_s: int) -> bytes:
    """The signature line, with its newline.

    Args:
        sign: signs with the private half of `key`.
        time_s: Unix seconds, above 0.
    """
    ensure(0 < time_s <= TIME_MAX, "a cosignature says when")
    signed = time_s.to_bytes(8, "big") + sign(_message(text, key, time_s))
    return f"{_DASH} {key.name} {base64.b64encode(key.key_hash + signed).decode()}\n".encode()


def verify_cosignatures(text: bytes, lines: bytes, keys: Sequence[WitnessKey]) -> tuple[Cosignature, ...]:
    """The lines of `keys`, each key's first one, verified; lines of other keys are skipped.

    Raises:
        Rejected: `cosignature_malformed`; `cosignature_wrong`: a line of a known key does not verify.
    """
    known = {(key.name, key.key_hash): key for key in keys}
    found: dict[WitnessKey, Cosignature] = {}
    for line in _split(lines):
        name, raw = _read_line(line)
        key = known.get((name, raw[:4]))
        if key is not None and key not in found:
            found[key] = _verified(text, key, raw[4:], line)
    return tuple(found.values())


def require_quorum(text: bytes, lines: bytes, policy: WitnessPolicy) -> tuple[Cosignature, ...]:
    """The verified cosignatures, if enough witnesses vouch for the head.

    Raises:
        Rejected: `witness_quorum_missing`, and as `verify_cosignatures`.
    """
    found = verify_cosignatures(text, lines, policy.keys)
    witnessed = policy.witnessed(found)
    if len(witnessed) < policy.needed:
        seen = ", ".join(witnessed) or "none"
        raise Rejected("witness_quorum_missing", f"expected {policy.needed} of {len(policy.names)}, saw {seen}")
    return found


def _verified(text: bytes, key: WitnessKey, signed: bytes, line: bytes) -> Cosignature:
    time_s = int.from_bytes(signed[:8], "big")
    if len(signed) < 8 or not 0 < time_s <= TIME_MAX:
        raise _malformed("a time of at least one second, in 8 bytes")
    if not signature.verify(key.algorithm, key.public_key, _message(text, key, time_s), signed[8:]):
        name = signature.algorithm(key.algorithm).name
        raise Rejected("cosignature_wrong", f"the {name} cosignature of {key.name} does not fit the checkpoint")
    return Cosignature(key=key, time_s=time_s, line=line)


def _message(text: bytes, key: WitnessKey, time_s: int) -> bytes:
    """What the key signs: the whole text under a header line, or the subtree from 0 to the size."""
    if key.algorithm == cose.ED25519:
        return b"cosignature/v1\ntime %d\n" % time_s + text
    origin, size, root = _fields(text)
    return b"".join(
        (
            _SUBTREE_LABEL,
            _opaque(key.name.encode()),
            time_s.to_bytes(8, "big"),
            _opaque(origin),
            bytes(8),  # start: a checkpoint is the subtree from the first leaf on
            size.to_bytes(8, "big"),
            root,
        )
    )


def _fields(text: bytes) -> tuple[bytes, int, bytes]:
    parts = text.split(b"\n")
    if len(parts) != 4 or parts[3] or not 0 < len(parts[0]) <= NAME_BYTES_MAX:
        raise _malformed("a checkpoint of three lines")
    size, root = parts[1].decode("ascii", "replace"), _from_base64(parts[2].decode("ascii", "replace"), _malformed)
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size) or len(root) != 32:
        raise _malformed("a decimal size and a root of 32 bytes")
    return parts[0], int(size), root


def _opaque(value: bytes) -> bytes:
    """RFC 8446 section 3.4: opaque<1..2^8-1>."""
    return bytes((len(value),)) + value


def _split(lines: bytes) -> list[bytes]:
    if len(lines) > LINES_BYTES_MAX:
        raise _malformed(f"at most {LINES_BYTES_MAX} bytes")
    parts = lines.splitlines(keepends=True)
    if len(parts) > LINES_MAX or any(not part.endswith(b"\n") for part in parts):
        raise _malformed(f"at most {LINES_MAX} lines, each ended by a newline")
    return parts


def _read_line(line: bytes) -> tuple[str, bytes]:
    mark, _, rest = line.decode(errors="replace").removesuffix("\n").partition(" ")
    name, _, encoded = rest.partition(" ")
    raw = _from_base64(encoded, _malformed)
    if mark != _DASH or not name or len(raw) < 5:
        raise _malformed("lines of dash, name and signature")
    return name, raw


def _from_base64(text: str, refusal: Callable[[str], Rejected]) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as cause:
        raise refusal("base64") from cause
    if base64.b64encode(raw).decode() != text:
        raise refusal("base64 in its one form")
    return raw


def _malformed(expected: str) -> Rejected:
    return Rejected("cosignature_malformed", f"expected {expected}")


def _key_malformed(expected: str) -> Rejected:
    return Rejected("witness_key_malformed", f"expected {expected}")

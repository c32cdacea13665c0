"""Two independent signatures over the same statement, one per key class; both are required.

Composite ML-DSA is still a draft, so the two stand side by side and each names its key. Must never accept one for the
other: a missing class and a wrong one are told apart. Used by receipts (RFC 9942) and owner statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.crypto import signature
from appliance.crypto.signature import KeyClass
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

KEY_CLASSES: Final[tuple[KeyClass, KeyClass]] = ("classical", "post_quantum")


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedKey:
    """A public key that a verifier believes in."""

    algorithm: int
    public_key: bytes

    @property
    def key_class(self) -> KeyClass:
        return signature.algorithm(self.algorithm).key_class

    @property
    def key_id(self) -> bytes:
        return signature.key_id(self.public_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridPublic:
    """The pinned pair."""

    classical: PinnedKey
    post_quantum: PinnedKey

    def __post_init__(self) -> None:
        ensure(self.classical.key_class == "classical", "the classical half has a classical algorithm")
        ensure(self.post_quantum.key_class == "post_quantum", "the post-quantum half has a post-quantum algorithm")

    def of(self, key_class: KeyClass) -> PinnedKey:
        return self.classical if key_class == "classical" else self.post_quantum


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """One claim of a signature: which key says so, with which algorithm, over which bytes.

    `to_be_signed` differs between the two where the signed bytes name the algorithm (COSE protected headers); the
    caller has proven that both carry the same statement.
    """

    key_id: bytes
    algorithm: int
    to_be_signed: bytes
    signature: bytes


def require_both(pinned: HybridPublic, signatures: Sequence[Signed], *, noun: str = "signature") -> None:
    """Return if exactly one right signature per key class is there.

    Args:
        noun: what a reader calls the thing that carries a signature; with "receipt" the codes read
            `classical_receipt_missing` and so on.
    Raises:
        Rejected: `classical_{noun}_missing`, `post_quantum_{noun}_missing` (none by the pinned key of that class),
            `classical_{noun}_wrong`, `post_quantum_{noun}_wrong`, `{class}_{noun}_repeated`, `{noun}_key_unknown`.
    """
    for key_class in KEY_CLASSES:
        _require_one(pinned.of(key_class), signatures, key_class, noun)
    if len(signatures) != len(KEY_CLASSES):
        raise Rejected(f"{noun}_key_unknown", f"expected {len(KEY_CLASSES)} of the pinned keys, saw {len(signatures)}")


def _require_one(pinned: PinnedKey, signatures: Sequence[Signed], key_class: KeyClass, noun: str) -> None:
    label = key_class.replace("_", "-")
    mine = [signed for signed in signatures if signed.key_id == pinned.key_id]
    if not mine:
        raise Rejected(f"{key_class}_{noun}_missing", f"no {label} {noun} by key {pinned.key_id.hex()[:16]} is there")
    if len(mine) > 1:
        raise Rejected(f"{key_class}_{noun}_repeated", f"expected one {label} {noun}, saw {len(mine)}")
    signed = mine[0]
    name = signature.algorithm(pinned.algorithm).name
    if signed.algorithm != pinned.algorithm:
        raise Rejected(
            f"{key_class}_{noun}_wrong", f"expected {name} ({pinned.algorithm}), saw algorithm {signed.algorithm}"
        )
    if not signature.verify(pinned.algorithm, pinned.public_key, signed.to_be_signed, signed.signature):
        raise Rejected(f"{key_class}_{noun}_wrong", f"the {label} {noun} ({name}) does not fit the statement")

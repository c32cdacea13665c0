"""Succession: how a log goes on under new keys, and how the owner takes his trust from a key.

Owns the bytes of the `rotation` and `distrust` statements and entries. Must never sign.

* New keys are the owner's word, so a thief of the old keys cannot name his own. The old keys sign where in the log the
  change happens: the entry is theirs, the heads behind it are the new keys'.

Source: docs/formats/succession.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor, hybrid
from appliance.crypto.hybrid import HybridPublic, PinnedKey, Signed
from appliance.crypto.owner import OwnerPublic, SignedStatement
from appliance.ledger.entry import ENTRY_BYTES_MAX, HASH_BYTES
from appliance.ledger.genesis import LogId
from appliance.ledger.log_keys import Distrust, KeyPeriod, LogKeys
from appliance.model.errors import Rejected

ROTATION: Final = "rotation"  # the kind of the entry, and of the owner's statement
DISTRUST: Final = "distrust"
_DOMAIN: Final = b"tillstone/rotation/v1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationStatement:
    """What the owner signs: the next keys of a log.

    Attributes:
        number: 1 for the first rotation of the log.
        note_key: SubjectPublicKeyInfo of the Ed25519 key of checkpoints.
    """

    log_id: LogId
    number: int
    keys: HybridPublic
    note_key: bytes

    def encode(self) -> bytes:
        """The bytes that the owner signs."""
        return cbor.encode(
            {
                "classical": [self.keys.classical.algorithm, self.keys.classical.public_key],
                "log": self.log_id,
                "note": self.note_key,
                "number": self.number,
                "post_quantum": [self.keys.post_quantum.algorithm, self.keys.post_quantum.public_key],
                "version": 1,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The body of a `rotation` entry.

    Attributes:
        size: entries before this one, which is its seq: heads of up to `size` entries are the old keys'.
        classical, post_quantum: the old keys over `rotation_to_be_signed`.
    """

    by_owner: SignedStatement
    size: int
    classical: bytes
    post_quantum: bytes

    def encode_body(self) -> bytes:
        """Body of the entry."""
        return cbor.encode(
            {
                "classical": self.classical,
                "owner_signature": self.by_owner.owner_signature,
                "post_quantum": self.post_quantum,
                "size": self.size,
                "statement": self.by_owner.statement,
            }
        )

    @property
    def log_id(self) -> LogId:
        """The log that it is about, unverified. Raises Rejected `rotation_malformed`."""
        return read_rotation_statement(self.by_owner.statement).log_id

    def period(self) -> KeyPeriod:
        """What it says, unverified. Raises Rejected `rotation_malformed`."""
        statement = read_rotation_statement(self.by_owner.statement)
        return KeyPeriod(first_size=self.size + 1, keys=statement.keys, note_key=statement.note_key)

    def extend(self, keys: LogKeys, owner: OwnerPublic) -> LogKeys:
        """`keys` and the ones that this rotation brings, if the owner and the keys until now signed it.

        Raises:
            Rejected: `rotation_malformed`, `rotation_out_of_order`, `rotation_of_another_log`, and the codes of
                `hybrid.require_both` with the nouns "signature" (the owner's) and "rotation" (the old keys').
        """
        self.by_owner.verify(owner, ROTATION)
        statement = read_rotation_statement(self.by_owner.statement)
        if statement.log_id != keys.log_id:
            raise Rejected("rotation_of_another_log", f"expected log {keys.log_id.hex()[:16]}")
        if statement.number != len(keys.periods):
            raise Rejected("rotation_out_of_order", f"expected {len(keys.periods)}, saw {statement.number}")
        old = keys.newest.keys
        to_be_signed = rotation_to_be_signed(self.by_owner.statement, self.size)
        claims = [
            Signed(key_id=key.key_id, algorithm=key.algorithm, to_be_signed=to_be_signed, signature=signed)
            for key, signed in ((old.classical, self.classical), (old.post_quantum, self.post_quantum))
        ]
        hybrid.require_both(old, claims, noun="rotation")
        return keys.then(self.period())


def rotation_to_be_signed(statement: bytes, size: int) -> bytes:
    """What both old keys sign: domain, size as 8 bytes, statement. No COSE structure and no checkpoint begins so."""
    return _DOMAIN + size.to_bytes(8, "big") + statement


def read_rotation(body: bytes) -> Rotation:
    """The body of a `rotation` entry. Raises Rejected `rotation_malformed` and every `cbor_*` code."""
    match cbor.decode(body, size_max=ENTRY_BYTES_MAX):
        case {
            "statement": bytes(statement),
            "owner_signature": bytes(owner_signature),
            "size": int(size),
            "classical": bytes(classical),
            "post_quantum": bytes(post_quantum),
            **rest,
        } if not rest and 0 < size < 1 << 63:
            return Rotation(
                by_owner=SignedStatement(statement=statement, owner_signature=owner_signature),
                size=size,
                classical=classical,
                post_quantum=post_quantum,
            )
    raise Rejected("rotation_malformed", "expected a rotation of version 1")


def read_rotation_statement(encoded: bytes) -> RotationStatement:
    """What the owner signed. Raises Rejected `rotation_malformed` and every `cbor_*` code."""
    match cbor.decode(encoded, size_max=ENTRY_BYTES_MAX):
        case {
            "version": 1,
            "log": bytes(log_id),
            "number": int(number),
            "classical": [int(classical_algorithm), bytes(classical_key)],
            "post_quantum": [int(post_quantum_algorithm), bytes(post_quantum_key)],
            "note": bytes(note_key),
            **rest,
        } if not rest and number > 0 and len(log_id) == HASH_BYTES:
            return RotationStatement(
                log_id=LogId(log_id),
                number=number,
                keys=HybridPublic(
                    classical=PinnedKey(algorithm=classical_algorithm, public_key=classical_key),
                    post_quantum=PinnedKey(algorithm=post_quantum_algorithm, public_key=post_quantum_key),
                ),
                note_key=note_key,
            )
    raise Rejected("rotation_malformed", "expected a rotation statement of version 1")


def distrust_statement(distrust: Distrust) -> bytes:
    """The bytes that the owner signs, and the body of a `distrust` entry is their signed form."""
    return cbor.encode(
        {
            "before": distrust.before_ms,
            "key": distrust.key_id,
            "log": distrust.log_id,
            "size": distrust.size,
            "version": 1,
        }
    )


def verify_distrust(signed: SignedStatement, owner: OwnerPublic) -> Distrust:
    """What the owner said. Raises Rejected `distrust_malformed` and the codes of `SignedStatement.verify`."""
    signed.verify(owner, DISTRUST)
    return read_distrust(signed.statement)


def read_distrust(statement: bytes) -> Distrust:
    """What the statement says, unverified. Raises Rejected `distrust_malformed` and every `cbor_*` code."""
    match cbor.decode(statement, size_max=ENTRY_BYTES_MAX):
        case {
            "version": 1,
            "log": bytes(log_id),
            "key": bytes(key_id),
            "size": int(size),
            "before": int(before_ms),
            **rest,
        } if not rest and len(log_id) == len(key_id) == HASH_BYTES and size >= 0 and before_ms >= 0:
            return Distrust(log_id=LogId(log_id), key_id=key_id, size=size, before_ms=before_ms)
    raise Rejected("distrust_malformed", "expected a distrust statement of version 1")

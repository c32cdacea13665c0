"""Genesis: the owner's word for a log's name and keys, as entry 0 of that log.

Owns the statement and its bytes. Must never sign: the owner key is offline.

* The log id is SHA-256 of the statement, so it commits to the keys; receipts and epochs name the log by it.

Source: docs/formats/genesis.md.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NewType

from appliance.crypto import cbor
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.crypto.owner import OwnerPublic, OwnerSignature, verify_statement
from appliance.ledger.entry import ENTRY_BYTES_MAX, HASH_BYTES
from appliance.model.errors import Rejected

LogId = NewType("LogId", bytes)

KIND = "genesis"
ACTOR = "owner"
STATEMENT_KIND = "genesis"  # the owner's domain separation, see docs/formats/genesis.md
_ORIGIN = re.compile(r"\A[a-z0-9.-]{1,64}/[A-Za-z0-9-]{1,64}/[1-9][0-9]{0,8}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousHead:
    """Where the log of a lost token or box ended: the last head that a witness cosigned."""

    log_id: LogId
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisStatement:
    """Name and keys of one log.

    Attributes:
        origin: owner/serial/generation.
        note_key: SubjectPublicKeyInfo of the Ed25519 key of checkpoints.
    """

    origin: str
    created_ms: int
    keys: HybridPublic
    note_key: bytes
    previous: PreviousHead | None = None

    def encode(self) -> bytes:
        """The bytes that the owner signs."""
        previous = self.previous
        return cbor.encode(
            {
                "classical": [self.keys.classical.algorithm, self.keys.classical.public_key],
                "created": self.created_ms,
                "note": self.note_key,
                "origin": self.origin,
                "post_quantum": [self.keys.post_quantum.algorithm, self.keys.post_quantum.public_key],
                "previous": None if previous is None else [previous.log_id, previous.size, previous.root],
                "version": 1,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedGenesis:
    """A statement with the owner's signatures; nothing about it is believed before `verify`."""

    statement: bytes
    owner_signature: bytes

    @property
    def log_id(self) -> LogId:
        """The log's name."""
        return LogId(hashlib.sha256(self.statement).digest())

    def encode_body(self) -> bytes:
        """Body of entry 0."""
        return cbor.encode({"owner_signature": self.owner_signature, "statement": self.statement})

    def read(self) -> GenesisStatement:
        """Raises Rejected `genesis_malformed`, every `cbor_*` code and those of public keys."""
        return read_statement(self.statement)

    def verify(self, owner: OwnerPublic) -> GenesisStatement:
        """The statement, if `owner` signed it; raises Rejected with the codes of `owner.verify_statement` too."""
        verify_statement(owner, STATEMENT_KIND, self.statement, OwnerSignature.decode(self.owner_signature))
        return self.read()


def read_body(body: bytes) -> SignedGenesis:
    """The body of entry 0. Raises Rejected `genesis_malformed` and every `cbor_*` code."""
    decoded = cbor.decode(body, size_max=ENTRY_BYTES_MAX)
    if isinstance(decoded, dict) and decoded.keys() == {"statement", "owner_signature"}:
        statement, owner_signature = decoded["statement"], decoded["owner_signature"]
        if isinstance(statement, bytes) and isinstance(owner_signature, bytes):
            return SignedGenesis(statement=statement, owner_signature=owner_signature)
    raise Rejected("genesis_malformed", "expected a map of `statement` and `owner_signature`, both byte strings")


def read_statement(encoded: bytes) -> GenesisStatement:
    """A statement, signed or not. Raises Rejected `genesis_malformed`, every `cbor_*` code and those of public keys."""
    match cbor.decode(encoded, size_max=ENTRY_BYTES_MAX):
        case {
            "version": 1,
            "origin": str(origin),
            "created": int(created_ms),
            "classical": [int(classical_algorithm), bytes(classical_key)],
            "post_quantum": [int(post_quantum_algorithm), bytes(post_quantum_key)],
            "note": bytes(note_key),
            "previous": previous,
            **rest,
        } if not rest and _ORIGIN.match(origin) and created_ms >= 0:
            return GenesisStatement(
                origin=origin,
                created_ms=created_ms,
                keys=HybridPublic(
                    classical=PinnedKey(algorithm=classical_algorithm, public_key=classical_key),
                    post_quantum=PinnedKey(algorithm=post_quantum_algorithm, public_key=post_quantum_key),
                ),
                note_key=note_key,
                previous=_read_previous(previous),
            )
    raise Rejected("genesis_malformed", "expected a genesis statement of version 1 with a valid origin")


def _read_previous(value: cbor.Value) -> PreviousHead | None:
    match value:
        case None:
            return None
        case [bytes(log_id), int(size), bytes(root)] if len(log_id) == len(root) == HASH_BYTES and size > 0:
            return PreviousHead(log_id=LogId(log_id), size=size, root=root)
    raise Rejected("genesis_malformed", "expected `previous` as null or [log id, size, root]")

"""trust.json: the owner's public keys, and the logs that the owner vouched for.

Owns the file's shape. Must never believe a log because it stands in the file: each genesis statement is evidence,
verified against the owner on every load. The owner's keys are the only pin; compare their fingerprint by another way.

Source: docs/formats/genesis.md, "trust.json".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from appliance.crypto.hybrid import HybridPublic
from appliance.crypto.owner import OwnerPublic
from appliance.ledger.genesis import GenesisStatement, LogId, SignedGenesis
from appliance.model.errors import Rejected

TRUST_BYTES_MAX = 4 << 20


class _Owner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    classical: str
    post_quantum: str


class _Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    statement: str
    owner_signature: str


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    owner: _Owner
    logs: Annotated[list[_Log], msgspec.Meta(max_length=64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The pin and what follows from it."""

    owner: OwnerPublic
    logs: dict[LogId, GenesisStatement]

    @property
    def keys(self) -> dict[LogId, HybridPublic]:
        """Keys of each known log, as `verify_receipt` wants them."""
        return {log_id: statement.keys for log_id, statement in self.logs.items()}


def encode_trust(owner: OwnerPublic, logs: Sequence[SignedGenesis]) -> bytes:
    """The file."""
    file = _File(
        version=1,
        owner=_Owner(classical=_to_text(owner.classical), post_quantum=_to_text(owner.post_quantum)),
        logs=[_Log(statement=_to_text(log.statement), owner_signature=_to_text(log.owner_signature)) for log in logs],
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def load_trust(file: bytes) -> Trust:
    """Read the file and verify every log in it.

    Raises:
        Rejected: `trust_malformed`, and the codes of `OwnerPublic.decode` and `SignedGenesis.verify`.
    """
    if len(file) > TRUST_BYTES_MAX:
        raise Rejected("trust_malformed", f"expected at most {TRUST_BYTES_MAX} bytes, saw {len(file)}")
    try:
        read = msgspec.json.decode(file, type=_File)
        owner = OwnerPublic(classical=_to_bytes(read.owner.classical), post_quantum=_to_bytes(read.owner.post_quantum))
        signed = [
            SignedGenesis(statement=_to_bytes(log.statement), owner_signature=_to_bytes(log.owner_signature))
            for log in read.logs
        ]
    except (msgspec.DecodeError, binascii.Error, ValueError) as cause:
        raise Rejected("trust_malformed", f"expected a trust file of version 1: {cause}") from cause
    owner = OwnerPublic.decode(owner.encode())  # checks that the keys are of the owner's two types
    return Trust(owner=owner, logs={log.log_id: log.verify(owner) for log in signed})


def _to_text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _to_bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)

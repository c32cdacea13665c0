"""trust.json: the owner's public keys, and what the owner said: logs, their later keys, keys no longer trusted.

Owns the file's shape. Must never believe a statement because it stands in the file: each is evidence, verified against
the owner on every load. The owner's keys are the only pin; compare their fingerprint by another way.

* Witnesses in the file are a pin too, by whoever hands it over: no statement of the owner names them.
* A file with the pin alone is enough for whoever gets the statements with an export or a bundle.

Source: docs/formats/genesis.md, "trust.json".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

import msgspec

from appliance.crypto import cbor
from appliance.crypto.owner import OwnerPublic, SignedStatement
from appliance.evidence.block import MAINNET, NETWORKS, Network
from appliance.evidence.cosignature import WitnessKey, WitnessPolicy
from appliance.ledger.entry import decode
from appliance.ledger.genesis import KIND as GENESIS
from appliance.ledger.genesis import GenesisStatement, LogId, SignedGenesis, read_body
from appliance.ledger.log_keys import Distrust, LogKeys
from appliance.ledger.succession import DISTRUST, ROTATION, Rotation, read_rotation, verify_distrust
from appliance.model.errors import Corrupt, Rejected

TRUST_BYTES_MAX = 4 << 20
_OWNERS: Final = re.compile(b"|".join(re.escape(cbor.encode(kind)) for kind in (GENESIS, ROTATION, DISTRUST)))
_KIND_WITHIN_BYTES: Final = 2 + 9 + 9 + 9  # array and version, seq, time, kind


class _Owner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    classical: str
    post_quantum: str


class _Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    statement: str
    owner_signature: str


class _Log(_Signed, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    rotations: Annotated[list[str], msgspec.Meta(max_length=64)] = []


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    owner: _Owner
    logs: Annotated[list[_Log], msgspec.Meta(max_length=64)]
    distrusted: Annotated[list[_Signed], msgspec.Meta(max_length=64)] = []
    witnesses: Annotated[list[Annotated[str, msgspec.Meta(max_length=4096)]], msgspec.Meta(max_length=64)] = []
    witnesses_needed: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    network: Annotated[str, msgspec.Meta(pattern=rf"\A(?:{'|'.join(NETWORKS)})\Z")] = MAINNET.name


NO_WITNESSES: Final = WitnessPolicy(keys=(), needed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the owner said, as bytes to hand on; verified by `trust_in`."""

    logs: tuple[SignedGenesis, ...] = ()
    rotations: tuple[Rotation, ...] = ()
    distrusted: tuple[SignedStatement, ...] = ()

    def __add__(self, other: Evidence) -> Evidence:
        """Both, each statement once."""
        return Evidence(
            logs=tuple(dict.fromkeys((*self.logs, *other.logs))),
            rotations=tuple(dict.fromkeys((*self.rotations, *other.rotations))),
            distrusted=tuple(dict.fromkeys((*self.distrusted, *other.distrusted))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The pin and what follows from it.

    Attributes:
        keys: for each log which keys sign heads of which size, as `verify_receipt` wants them.
        evidence: the statements from which all this follows.
        witnesses: who may vouch that everybody is shown the same log, and how many must.
        network: the chain whose blocks count.
    """

    owner: OwnerPublic
    logs: dict[LogId, GenesisStatement]
    keys: dict[LogId, LogKeys]
    evidence: Evidence
    witnesses: WitnessPolicy = NO_WITNESSES
    network: Network = MAINNET

    def encode(self) -> bytes:
        """The file from which this is loaded again."""
        return encode_evidence(self.owner, self.evidence, self.witnesses, self.network)

    def learn(self, evidence: Evidence) -> Trust:
        """With more of what the owner said: a newer trust file, an export; raises Rejected as `trust_in`."""
        learnt = trust_in(self.owner, self.evidence + evidence)
        return replace(learnt, witnesses=self.witnesses, network=self.network)


def trust_in(owner: OwnerPublic, evidence: Evidence) -> Trust:
    """What follows from the owner's statements, each verified.

    Raises:
        Rejected: the codes of `SignedGenesis.verify`, `Rotation.extend` and `verify_distrust`;
            `rotation_of_another_log`: a rotation of a log that is not here.
    """
    logs = {signed.log_id: signed.verify(owner) for signed in evidence.logs}
    keys = {log_id: LogKeys.of(log_id, statement) for log_id, statement in logs.items()}
    for rotation in sorted(evidence.rotations, key=lambda rotation: rotation.size):
        log_id = rotation.log_id
        if log_id not in keys:
            raise Rejected("rotation_of_another_log", f"log {log_id.hex()[:16]} is not among {len(logs)} trusted logs")
        keys[log_id] = rotation.extend(keys[log_id], owner)
    distrusted: list[Distrust] = [verify_distrust(signed, owner) for signed in evidence.distrusted]
    return Trust(
        owner=owner,
        logs=logs,
        keys={log_id: known.without(distrusted) for log_id, known in keys.items()},
        evidence=evidence,
    )


def listening(entries: Iterable[bytes], said: list[Evidence]) -> Iterator[bytes]:
    """`entries` as they come, while what the owner said in them is put aside; for who walks a whole log.

    Raises:
        Rejected: the codes of `genesis.read_body`, `read_rotation` and `SignedStatement.decode`;
            `rotation_out_of_order` for one that names another place than its own.
    """
    for encoded in entries:
        # Few bytes are looked at: a walk over millions of entries must not pay for what happens once in years
        # (0.2 us).
        if _OWNERS.search(encoded, 2, _KIND_WITHIN_BYTES) is not None:
            said.append(_said_in(encoded))
        yield encoded


def _said_in(encoded: bytes) -> Evidence:
    try:
        entry = decode(encoded)
    except Corrupt:
        return Evidence()  # the walk names it
    if entry.kind == GENESIS:
        return Evidence(logs=(read_body(entry.body),))
    if entry.kind == DISTRUST:
        return Evidence(distrusted=(SignedStatement.decode(entry.body),))
    if entry.kind != ROTATION:
        return Evidence()
    rotation = read_rotation(entry.body)
    if rotation.size != entry.seq:
        raise Rejected("rotation_out_of_order", f"expected size {entry.seq}, saw {rotation.size}")
    return Evidence(rotations=(rotation,))


def encode_trust(owner: OwnerPublic, logs: Sequence[SignedGenesis]) -> bytes:
    """The file of an owner whose logs have their first keys."""
    return encode_evidence(owner, Evidence(logs=tuple(logs)))


def encode_evidence(
    owner: OwnerPublic, evidence: Evidence, witnesses: WitnessPolicy = NO_WITNESSES, network: Network = MAINNET
) -> bytes:
    """The file."""
    file = _File(
        version=1,
        owner=_Owner(classical=_to_text(owner.classical), post_quantum=_to_text(owner.post_quantum)),
        logs=[
            _Log(
                statement=_to_text(log.statement),
                owner_signature=_to_text(log.owner_signature),
                rotations=[_to_text(each.encode_body()) for each in evidence.rotations if each.log_id == log.log_id],
            )
            for log in evidence.logs
        ],
        distrusted=[
            _Signed(statement=_to_text(signed.statement), owner_signature=_to_text(signed.owner_signature))
            for signed in evidence.distrusted
        ],
        witnesses=[key.vkey for key in witnesses.keys],
        witnesses_needed=witnesses.needed,
        network=network.name,
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def load_trust(file: bytes) -> Trust:
    """Read the file and verify every statement in it.

    Raises:
        Rejected: `trust_malformed`, and the codes of `OwnerPublic.decode`, `trust_in`, `WitnessKey.from_vkey` and
            `WitnessPolicy`.
    """
    if len(file) > TRUST_BYTES_MAX:
        raise Rejected("trust_malformed", f"expected at most {TRUST_BYTES_MAX} bytes, saw {len(file)}")
    try:
        read = msgspec.json.decode(file, type=_File)
        owner = OwnerPublic(classical=_to_bytes(read.owner.classical), post_quantum=_to_bytes(read.owner.post_quantum))
        bodies = [_to_bytes(rotation) for log in read.logs for rotation in log.rotations]
        evidence = Evidence(
            logs=tuple(
                SignedGenesis(statement=_to_bytes(log.statement), owner_signature=_to_bytes(log.owner_signature))
                for log in read.logs
            ),
            distrusted=tuple(
                SignedStatement(statement=_to_bytes(each.statement), owner_signature=_to_bytes(each.owner_signature))
                for each in read.distrusted
            ),
        )
    except (msgspec.DecodeError, binascii.Error, ValueError) as cause:
        raise Rejected("trust_malformed", f"expected a trust file of version 1: {cause}") from cause
    owner = OwnerPublic.decode(owner.encode())  # checks that the keys are of the owner's two types
    keys = tuple(WitnessKey.from_vkey(vkey) for vkey in read.witnesses)
    trust = trust_in(owner, replace(evidence, rotations=tuple(read_rotation(body) for body in bodies)))
    policy = WitnessPolicy(keys=keys, needed=read.witnesses_needed)
    return replace(trust, witnesses=policy, network=NETWORKS[read.network])


def _to_text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _to_bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)

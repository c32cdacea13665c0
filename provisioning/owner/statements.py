"""What the owner may be asked to sign, and how each becomes part of the trust file.

Owns the step from a request to signed evidence. Must never sign what it has not shown: `describe` says it in words
first, and a request that does not fit what is trusted is refused.

Source: docs/formats/genesis.md, docs/formats/succession.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from appliance.crypto import signature
from appliance.crypto.owner import OwnerKey, OwnerPublic
from appliance.evidence.cosignature import WitnessPolicy, require_quorum
from appliance.evidence.release import RELEASE, ReleaseStatement
from appliance.ledger.attestation import CERTIFICATE, AttestationStatement
from appliance.ledger.checkpoint import read_checkpoint, verify_checkpoint
from appliance.ledger.genesis import (
    STATEMENT_KIND,
    GenesisStatement,
    LogId,
    PreviousHead,
    SignedGenesis,
    read_statement,
)
from appliance.ledger.log_keys import Distrust, KeyPeriod
from appliance.ledger.succession import (
    DISTRUST,
    ROTATION,
    RotationStatement,
    distrust_statement,
    read_rotation_statement,
)
from appliance.ledger.trust import Evidence, Trust
from appliance.model.errors import Rejected

if TYPE_CHECKING:
    from provisioning.attest.certify import CertificateRequest

Statement: TypeAlias = GenesisStatement | RotationStatement | Distrust | AttestationStatement | ReleaseStatement


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The outcome: the file for the box, and what the trust file gains (a rotation only once it stands in the log)."""

    file: bytes
    evidence: Evidence


def genesis_request(request: bytes, trust: Trust) -> GenesisStatement:
    """A first log's statement, as the box made it. Raises Rejected `owner_request_refused`."""
    statement = read_statement(request)
    if statement.previous is not None:
        raise Rejected("owner_request_refused", "this log succeeds another one: use succeed")
    _require_new(statement, trust)
    return statement


def succession_request(request: bytes, trust: Trust, checkpoint: bytes, witnesses: WitnessPolicy) -> GenesisStatement:
    """A successor's statement, with the old log's head filled in from its last cosigned checkpoint.

    Raises:
        Rejected: `owner_request_refused`: it is no successor of a trusted log; the codes of `verify_checkpoint` and
            `require_quorum`.
    """
    statement = read_statement(request)
    _require_new(statement, trust)
    shop, _, generation = statement.origin.rpartition("/")
    old = [log_id for log_id, known in trust.logs.items() if known.origin == f"{shop}/{int(generation) - 1}"]
    if len(old) != 1:
        raise Rejected(
            "owner_request_refused", f"expected one trusted log {shop}/{int(generation) - 1} before {statement.origin}"
        )
    text, _, lines = checkpoint.partition(b"\n\n")
    require_quorum(text + b"\n", lines, witnesses)
    return replace(statement, previous=_head_of(checkpoint, old[0], trust))


def rotation_request(request: bytes, trust: Trust) -> RotationStatement:
    """A trusted log's next keys. Raises Rejected `owner_request_refused`."""
    statement = read_rotation_statement(request)
    keys = trust.keys.get(statement.log_id)
    if keys is None or statement.number != len(keys.periods):
        raise Rejected("owner_request_refused", "expected the next rotation of a log in the trust file")
    if statement.keys in [period.keys for period in keys.periods]:
        raise Rejected("owner_request_refused", "these are keys that the log had already")
    return statement


def distrust_request(distrust: Distrust, trust: Trust) -> Distrust:
    """A key of a trusted log. Raises Rejected `owner_request_refused`."""
    keys = trust.keys.get(distrust.log_id)
    if keys is None or not any(distrust.key_id in period.key_ids for period in keys.periods):
        raise Rejected("owner_request_refused", "expected a key of a log in the trust file")
    return distrust


def of_known_log(request: CertificateRequest, trust: Trust) -> CertificateRequest:
    """The request, if it is about a log of the trust file. Raises Rejected `owner_request_refused`."""
    if request.statement.log_id not in trust.logs:
        raise Rejected("owner_request_refused", "expected a log of the trust file")
    return request


def sign(owner: OwnerKey, statement: Statement) -> Signed:
    """Sign; blocks for about 0.6 s."""
    if isinstance(statement, GenesisStatement):
        by_owner = owner.sign(STATEMENT_KIND, statement.encode())
        genesis = SignedGenesis(statement=by_owner.statement, owner_signature=by_owner.owner_signature)
        return Signed(file=by_owner.encode(), evidence=Evidence(logs=(genesis,)))
    if isinstance(statement, RotationStatement):
        return Signed(file=owner.sign(ROTATION, statement.encode()).encode(), evidence=Evidence())
    if isinstance(statement, AttestationStatement):
        return Signed(file=owner.sign(CERTIFICATE, statement.encode()).encode(), evidence=Evidence())
    if isinstance(statement, ReleaseStatement):
        return Signed(file=owner.sign(RELEASE, statement.encode()).encode(), evidence=Evidence())
    by_owner = owner.sign(DISTRUST, distrust_statement(statement))
    return Signed(file=by_owner.encode(), evidence=Evidence(distrusted=(by_owner,)))


def describe(statement: Statement) -> tuple[str, ...]:
    """What a person compares with the box's screen before he signs."""
    if isinstance(statement, GenesisStatement):
        previous = statement.previous
        after = "" if previous is None else f"after log {previous.log_id.hex()} of {previous.size} entries"
        return (f"the log {statement.origin} begins {after}".rstrip(), *_keys(statement))
    if isinstance(statement, RotationStatement):
        return (f"log {statement.log_id.hex()}: rotation {statement.number} to new keys", *_keys(statement))
    if isinstance(statement, AttestationStatement):
        return _attestation(statement)
    if isinstance(statement, ReleaseStatement):
        return _release(statement)
    return (
        f"log {statement.log_id.hex()}: its key {statement.key_id.hex()} is not trusted for heads of more than",
        f"{statement.size} entries, unless others saw them before {statement.before}",
    )


def describe_request(request: bytes) -> tuple[str, ...]:
    """What the box's screen shows: the same words as the owner's."""
    try:
        return describe(read_statement(request))
    except Rejected:
        return describe(read_rotation_statement(request))


def describe_trust(trust: Trust) -> tuple[str, ...]:
    """Everything that the owner said, in words."""
    lines = [f"owner {trust.owner.fingerprint}"]
    for log_id, statement in trust.logs.items():
        lines += describe(statement)
        lines.append(f"  log id {log_id.hex()}")
        for period in trust.keys[log_id].periods[1:]:
            lines += [f"  heads of {period.first_size} entries and more are signed by", *_keys(period)]
        for distrust in trust.keys[log_id].distrusted:
            lines += describe(distrust)
    return tuple(lines)


def require_owner(owner: OwnerPublic, trust: Trust) -> None:
    """Raises Rejected `owner_request_refused` when the trust file pins another owner."""
    if owner != trust.owner:
        raise Rejected("owner_request_refused", f"the trust file pins owner {trust.owner.fingerprint}")


def _attestation(statement: AttestationStatement) -> tuple[str, ...]:
    maker = "nobody followed it to a maker" if statement.maker is None else f"of the maker {statement.maker.hex()}"
    return (
        f"log {statement.log_id.hex()}: what its TPM says of its box is signed",
        f"  by the key {hashlib.sha256(statement.key).hexdigest()}",
        f"  in the TPM with endorsement certificate {hashlib.sha256(statement.endorsement_certificate).hexdigest()}",
        f"  {maker}",
    )


def _release(statement: ReleaseStatement) -> tuple[str, ...]:
    values = [f"  PCR {pcr}: {' or '.join(each.hex() for each in seen)}" for pcr, seen in statement.values.items()]
    events = [f"  PCR {pcr}: any order of {len(seen)} known events" for pcr, seen in statement.events.items()]
    return (
        f"release: {statement.image} on {statement.model}",
        f"  root {statement.root_hash.hex()}",
        *values,
        *events,
        f"  TPM firmware {', '.join(f'{version:016x}' for version in statement.firmware)}",
    )


def _require_new(statement: GenesisStatement, trust: Trust) -> None:
    if statement.origin in [known.origin for known in trust.logs.values()]:
        raise Rejected("owner_request_refused", f"{statement.origin} has begun already: count the generation up")


def _head_of(checkpoint: bytes, log_id: LogId, trust: Trust) -> PreviousHead:
    period = trust.keys[log_id].at(read_checkpoint(checkpoint).size)
    head = verify_checkpoint(
        checkpoint,
        origin=trust.logs[log_id].origin,
        note_key=period.note_key,
        post_quantum=period.keys.post_quantum,
    )
    return PreviousHead(log_id=log_id, size=head.size, root=head.root)


def _keys(said: GenesisStatement | RotationStatement | KeyPeriod) -> tuple[str, ...]:
    pair = [
        f"  {signature.algorithm(key.algorithm).name} key {key.key_id.hex()}"
        for key in (said.keys.classical, said.keys.post_quantum)
    ]
    is_its_own = said.note_key != said.keys.classical.public_key
    return (*pair, *([f"  checkpoints: key {signature.key_id(said.note_key).hex()}"] if is_its_own else []))

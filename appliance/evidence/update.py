"""Update: the owner's word for an image that boxes of one model may start instead of theirs.

Owns the bytes of the `update` statement, and who may take it. Must never decide what is installed where: the
installer does.

Source: docs/formats/update.md, version 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor
from appliance.crypto.owner import OwnerPublic, SignedStatement
from appliance.model.errors import Rejected

UPDATE: Final = "update"
"""The kind of the owner's statement."""
UPDATE_BYTES_MAX: Final = 64 << 10
PARTS: Final = ("verity", "root", "uki")
"""In the order of the file, which is that of installing: what can be started comes last."""
PART_BYTES_MAX: Final = {"verity": 8 << 20, "root": 512 << 20, "uki": 64 << 20}
POLICIES_MAX: Final = 4
"""Half of what a bundle keeps: those of the running image stay beside them."""
NUMBER_MAX: Final = (1 << 31) - 1
LEAP_MAX: Final = 100
"""The floor counter is raised one by one, and the TPM's memory wears out."""
_DIGEST_BYTES: Final = 32
# Part of names of partitions (36 characters with what is around it) and of files; `+` would begin a count of tries.
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.~-]{0,18}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePart:
    """One part of the file: its length and SHA-256."""

    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrPolicy:
    """An approval by the policy key: with these PCR values the TPM opens the token's PIN.

    The members are those of `drivers/tpm/policy.py`, SignedPolicy.
    """

    pcrs: tuple[int, ...]
    version: int
    approved: bytes
    signature: bytes
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStatement:
    """What the owner signs.

    Attributes:
        model: of the hardware, as the image calls it.
        version: the image's, for people and names.
        number: of the release, rising; the TPM's floor counter refuses a lower one for good.
        root_hash: dm-verity's, of the root.
        pcr11: SHA-256 value of PCR 11 once the start is over.
        policies: approvals of that start, for every machine state that boxes of the model have.
        created_ms: when it was made.
    """

    model: str
    version: str
    number: int
    root_hash: bytes
    pcr11: bytes
    parts: Mapping[str, UpdatePart]
    policies: tuple[PcrPolicy, ...]
    created_ms: int

    def encode(self) -> bytes:
        """The bytes that the owner signs."""
        return cbor.encode(
            {
                "created": self.created_ms,
                "model": self.model,
                "number": self.number,
                "parts": {name: [part.size, part.sha256] for name, part in self.parts.items()},
                "pcr11": self.pcr11,
                "policies": [
                    [list(policy.pcrs), policy.version, policy.approved, policy.signature, policy.public_key]
                    for policy in self.policies
                ],
                "release": self.version,
                "root_hash": self.root_hash,
                "version": 1,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What a box has now, as far as it decides about updates.

    Attributes:
        floor: the TPM's floor counter: the number of the newest release that was confirmed here.
    """

    model: str
    version: str
    floor: int


def read_update_statement(encoded: bytes) -> UpdateStatement:
    """A statement, signed or not. Raises Rejected `update_malformed` and every `cbor_*` code."""
    match cbor.decode(encoded, size_max=UPDATE_BYTES_MAX):
        case {
            "version": 1,
            "model": str(model),
            "release": str(version),
            "number": int(number),
            "root_hash": bytes(root_hash),
            "pcr11": bytes(pcr11),
            "parts": dict(parts),
            "policies": list(policies),
            "created": int(created_ms),
            **rest,
        } if not rest and len(root_hash) == len(pcr11) == _DIGEST_BYTES:
            return UpdateStatement(
                model=model,
                version=_version(version),
                number=_number(number),
                root_hash=root_hash,
                pcr11=pcr11,
                parts=_parts(parts),
                policies=_policies(policies),
                created_ms=created_ms,
            )
    raise _malformed("an update statement of version 1")


def require_update(signed: SignedStatement, owner: OwnerPublic, installed: Installed) -> UpdateStatement:
    """The statement, if `owner` signed it and a box with `installed` may take it.

    Raises:
        Rejected: `update_malformed`, `update_unsigned`, `update_foreign`, `update_wrong_model`, `update_older`,
            `update_too_far`.
    """
    statement = read_update_statement(signed.statement)
    if not signed.owner_signature:
        raise Rejected("update_unsigned", f"nobody signed the update to {statement.version}")
    try:
        signed.verify(owner, UPDATE)
    except Rejected as refusal:
        raise Rejected(
            "update_foreign", f"expected the signature of owner {owner.fingerprint[:16]}: {refusal.detail}"
        ) from refusal
    if statement.model != installed.model:
        raise Rejected("update_wrong_model", f"expected an update for {installed.model}, saw one for {statement.model}")
    if statement.number <= installed.floor or statement.version == installed.version:
        raise Rejected(
            "update_older",
            f"expected a release after number {installed.floor} other than {installed.version},"
            f" saw number {statement.number}, {statement.version}",
        )
    if statement.number > installed.floor + LEAP_MAX:
        raise Rejected(
            "update_too_far", f"expected at most number {installed.floor + LEAP_MAX}, saw {statement.number}"
        )
    return statement


def _version(text: str) -> str:
    if _VERSION.match(text) is None:
        raise _malformed("a version of up to 19 letters, digits, dots, tildes and hyphens")
    return text


def _number(number: int) -> int:
    if not 0 < number <= NUMBER_MAX:
        raise _malformed(f"a release number from 1 to {NUMBER_MAX}")
    return number


def _parts(listed: Mapping[str | int, cbor.Value]) -> dict[str, UpdatePart]:
    parts: dict[str, UpdatePart] = {}
    for name in PARTS:
        match listed.get(name):
            case [int(size), bytes(sha256)] if 0 < size <= PART_BYTES_MAX[name] and len(sha256) == _DIGEST_BYTES:
                parts[name] = UpdatePart(size=size, sha256=sha256)
            case _:
                raise _malformed(f"size (at most {PART_BYTES_MAX[name]} bytes) and SHA-256 of the part {name}")
    if len(listed) != len(parts):
        raise _malformed(f"the parts {', '.join(PARTS)} and no others")
    return parts


def _policies(listed: list[cbor.Value]) -> tuple[PcrPolicy, ...]:
    policies = []
    for item in listed:
        match item:
            case [list(pcrs), int(version), bytes(approved), bytes(signature), bytes(public_key)]:
                numbers = tuple([pcr for pcr in pcrs if type(pcr) is int and 0 <= pcr < 24])
                if numbers and len(numbers) == len(pcrs):
                    policies.append(
                        PcrPolicy(
                            pcrs=numbers, version=version, approved=approved, signature=signature, public_key=public_key
                        )
                    )
            case _:
                pass
    if len(policies) != len(listed) or len(policies) > POLICIES_MAX:
        raise _malformed(f"at most {POLICIES_MAX} signed PCR policies")
    return tuple(policies)


def _malformed(expected: str) -> Rejected:
    return Rejected("update_malformed", f"expected {expected}")

"""`tillstone owner update`: makes an update file that boxes take out of the unsigned one of an image's build.

Owns what the owner adds: the release's number, and the approvals with which the TPM opens the token's PIN once the new
image has started. Must never sign a file whose parts are not the ones that its statement names.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from appliance.crypto.owner import SignedStatement
from appliance.evidence.update import UPDATE, PcrPolicy, UpdateStatement, read_update_statement
from appliance.evidence.update_file import chunks, head_of, read_update, size_of
from appliance.ledger.trust import TRUST_BYTES_MAX, load_trust
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, CannotDo, print_json
from provisioning.owner.signing import add_signing, confirm, make_ready, new_folder, owner_key, read_policy_key
from provisioning.owner.statements import require_owner
from provisioning.verify.wording import printable

IMAGE_PCR: Final = 11
_PCRS: Final = range(24)


def add_update(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`update FILE --number N --policy-key FILE --pcrs N=HEX,...`."""
    action = actions.add_parser("update", help="let boxes of a model start another image")
    action.add_argument("update", type=Path, metavar="FILE", help="build/image/update, as the image's build left it")
    action.add_argument("--number", type=int, required=True, metavar="N", help="the release's, above the one before it")
    action.add_argument("--policy-key", type=Path, required=True, metavar="FILE", help="made by `owner policy-key`")
    action.add_argument(
        "--pcrs",
        action="append",
        required=True,
        metavar="N=HEX,...",
        help="values of the PCRs that the image does not set, such as 0 and 7; once for each state that boxes have",
    )
    add_signing(action, run_update)


def run_update(arguments: argparse.Namespace) -> int:
    """Show what is signed, then write the signed file."""
    make_ready()
    trust = load_trust(read_named(arguments.trust, TRUST_BYTES_MAX))
    try:
        unsigned = read_update(arguments.update, lambda signed: read_update_statement(signed.statement))
    except OSError as cause:
        raise CannotDo(f"{arguments.update} cannot be read: {cause.strerror}", "check the name of the file") from cause
    states = [_values(text) for text in arguments.pcrs]
    statement = complete(
        unsigned, number=arguments.number, policy_key=read_policy_key(arguments.policy_key), states=states
    )
    shown = tuple(printable(line) for line in describe(statement))
    confirm(shown, arguments)
    owner = owner_key(arguments)
    require_owner(owner.public, trust)
    signed = new_folder(arguments.output) / f"tillstone-{statement.version}.update"
    write_signed(arguments.update, signed, owner.sign(UPDATE, statement.encode()))
    if arguments.json:
        print_json({"signed": str(signed), "says": list(shown)})
    else:
        print(f"Signed. Take {signed} to the box: tillstone update {signed}\nErase the shares' files here.")
    return DONE


def complete(
    unsigned: UpdateStatement,
    *,
    number: int,
    policy_key: ec.EllipticCurvePrivateKey,
    states: Sequence[Mapping[int, bytes]],
) -> UpdateStatement:
    """The statement with the release's number and one approval for each of `states` (PCR to value, all but 11)."""
    # The TPM's library, which other actions do without.
    from drivers.tpm.counter import POLICY_FLOOR_INDEX, written_counter_name
    from drivers.tpm.policy import sign_policy

    floor_name = written_counter_name(POLICY_FLOOR_INDEX)
    approvals = [
        sign_policy(policy_key, values={**state, IMAGE_PCR: unsigned.pcr11}, version=number, floor_name=floor_name)
        for state in states
    ]
    policies = [
        PcrPolicy(
            pcrs=approval.pcrs,
            version=approval.version,
            approved=approval.approved,
            signature=approval.signature,
            public_key=approval.public_key,
        )
        for approval in approvals
    ]
    made = replace(unsigned, number=number, policies=tuple(policies))
    return read_update_statement(made.encode())  # what a box would refuse is refused here


def describe(statement: UpdateStatement) -> tuple[str, ...]:
    """What a person compares with the build's own lines."""
    return (
        f"update to {statement.version}, release number {statement.number}, for boxes of model {statement.model}",
        f"  root {statement.root_hash.hex()}",
        f"  PCR 11 {statement.pcr11.hex()}",
        *[f"  {name}: {part.size} bytes, SHA-256 {part.sha256.hex()}" for name, part in statement.parts.items()],
        f"  the token's PIN opens in {len(statement.policies)} states, by PCRs"
        f" {', '.join(str(policy.pcrs) for policy in statement.policies)}",
    )


def write_signed(unsigned: Path, target: Path, signed: SignedStatement) -> None:
    """The parts of `unsigned` behind the owner's word for them, in a new file that is whole when this returns."""
    statement = read_update_statement(signed.statement)
    with unsigned.open("rb") as source, target.open("xb") as file:
        source.seek(-size_of(statement), os.SEEK_END)
        file.write(head_of(signed))
        for chunk in chunks(source):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _values(text: str) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    for item in text.split(","):
        number, _, digest = item.partition("=")
        try:
            pcr, value = int(number), bytes.fromhex(digest)
        except ValueError:
            pcr, value = -1, b""
        if pcr not in _PCRS or pcr == IMAGE_PCR or len(value) != 32 or pcr in values:
            raise CannotDo(f"{item!r} is no PCR with its SHA-256 value", "give for example 0=HEX,7=HEX; 11 is known")
        values[pcr] = value
    return values

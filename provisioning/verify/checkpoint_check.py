"""Checks a checkpoint, alone or under a proof of one entry, step by step.

Owns the order of the explanation. Must never decide about a signature or a path itself: `ledger/checkpoint.py`,
`ledger/tlog.py` and the formats of `evidence/` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.evidence.cosignature import verify_cosignatures
from appliance.ledger.checkpoint import Checkpoint, read_checkpoint, verify_checkpoint
from appliance.ledger.entry import Entry, decode
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.merkle import leaf_hash, root_from_inclusion
from appliance.ledger.tlog import TlogProof, read_proof
from appliance.ledger.trust import Trust, load_trust
from appliance.model.errors import Rejected, TillstoneError
from provisioning.verify.bodies import read_body
from provisioning.verify.hints import checkpoint_hint, trust_hint
from provisioning.verify.report import Report, Step
from provisioning.verify.sentences import sentence
from provisioning.verify.wording import printable, short, time_text

TRUST, FILE, LOG, SIGNATURES, WITNESSES = "trust file", "file", "log", "signatures", "witnesses"
PATH, MEANING = "path", "meaning"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proven:
    entry: Entry
    says: str
    body: dict[str, object]


def check_checkpoint(file: bytes, trust_file: bytes) -> Report:
    """Check and explain a signed note, with or without witnesses' lines; nothing is raised for any bytes."""
    walk = _Walk((TRUST, FILE, LOG, SIGNATURES, WITNESSES))
    try:
        checkpoint = _checked(walk, file, trust_file)
    except TillstoneError as refusal:
        return walk.refused(refusal)
    return walk.right(checkpoint)


def check_proof(file: bytes, trust_file: bytes, entry: bytes | None = None) -> Report:
    """Check and explain a tlog-proof; nothing is raised for any bytes.

    Args:
        entry: the entry that is to be proven, for a proof that does not hold it.
    """
    walk = _Walk((TRUST, FILE, LOG, SIGNATURES, WITNESSES, PATH, MEANING))
    try:
        walk.begin(FILE)
        proof = read_proof(file)
        checkpoint = _checked(walk, proof.checkpoint, trust_file)
        proven = _proven(walk, proof, checkpoint, entry)
    except TillstoneError as refusal:
        return walk.refused(refusal)
    told = f"entry {proven.entry.seq}, recorded at {time_text(proven.entry.time_ms)}: {proven.says}"
    fields: dict[str, object] = {
        "seq": proven.entry.seq,
        "time": time_text(proven.entry.time_ms),
        "kind": proven.entry.kind,
        "actor": proven.entry.actor,
        "says": proven.says,
        "body": proven.body,
    }
    return replace(walk.right(checkpoint), entries=(fields,), sentences=(told,))


class _Walk:
    """The steps that were passed, and the one that is being taken."""

    def __init__(self, order: tuple[str, ...]) -> None:
        self._order = order
        self._now = order[0]
        self.steps: list[Step] = []
        self.absent: dict[str, str] = {}

    def begin(self, name: str) -> None:
        self._now = name

    def passed(self, name: str, detail: str) -> None:
        self.steps.append(Step(name=name, ok=True, detail=detail))

    def refused(self, refusal: TillstoneError) -> Report:
        hint = trust_hint(refusal.code) if self._now == TRUST else checkpoint_hint(refusal.code)
        met = {self._now, *[step.name for step in self.steps]}
        return Report(
            steps=(*self.steps, Step(name=self._now, ok=False, detail=printable(refusal.detail))),
            code=refusal.code,
            hint=hint,
            not_reached=tuple([name for name in self._order if name not in met]),
        )

    def right(self, checkpoint: Checkpoint) -> Report:
        facts: dict[str, object] = {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
            "missing": list(self.absent),
        }
        verdict = "is genuine, without evidence by witnesses" if self.absent else "is genuine"
        return Report(steps=tuple(self.steps), facts=facts, absent=self.absent, verdict=verdict)


def _checked(walk: _Walk, note: bytes, trust_file: bytes) -> Checkpoint:
    walk.begin(TRUST)
    trust = load_trust(trust_file)
    walk.passed(TRUST, f"it pins the owner with fingerprint {trust.owner.fingerprint}")
    walk.begin(FILE)
    checkpoint = read_checkpoint(note)
    walk.passed(FILE, f"a checkpoint of {checkpoint.size} entries, root {short(checkpoint.root)}")
    walk.begin(LOG)
    logs = _logs(trust, checkpoint.origin)
    walk.passed(LOG, f"{checkpoint.origin}, whose keys the owner signed")
    walk.begin(SIGNATURES)
    keys = _signed_by(logs, note, checkpoint)
    keys.require_trusted(checkpoint.size, checkpoint.root, ())
    walk.passed(SIGNATURES, f"both keys of log {short(keys.log_id)} signed it, Ed25519 and ML-DSA-87")
    walk.begin(WITNESSES)
    _look_for_witnesses(walk, trust, checkpoint, note)
    return checkpoint


def _logs(trust: Trust, origin: str) -> list[LogKeys]:
    found = [trust.keys[log_id] for log_id, statement in trust.logs.items() if statement.origin == origin]
    if not found:
        known = ", ".join(statement.origin for statement in trust.logs.values())
        raise Rejected("checkpoint_origin_unknown", f"expected {known or 'no log at all'}, saw {origin[:80]}")
    return found


def _signed_by(logs: Sequence[LogKeys], note: bytes, checkpoint: Checkpoint) -> LogKeys:
    """Of the logs with the checkpoint's origin the one whose keys signed it."""
    refusals: list[Rejected] = []
    for keys in logs:
        period = keys.at(checkpoint.size)
        try:
            verify_checkpoint(
                note,
                origin=checkpoint.origin,
                note_key=period.note_key,
                post_quantum=period.keys.post_quantum,
            )
        except Rejected as refusal:
            refusals.append(refusal)
        else:
            return keys
    raise refusals[0]


def _look_for_witnesses(walk: _Walk, trust: Trust, checkpoint: Checkpoint, note: bytes) -> None:
    """Those that the trust file names; too few of them are missing, not wrong."""
    policy = trust.witnesses
    needed = max(1, policy.needed)
    if not policy.keys:
        walk.absent[WITNESSES] = "the trust file names no witness, so none can be believed"
        return
    found = verify_cosignatures(checkpoint.text(), note.partition(b"\n\n")[2], policy.keys)
    names = policy.witnessed(found)
    if len(names) < needed:
        walk.absent[WITNESSES] = f"{needed} of {len(policy.names)} known witnesses are needed, {len(names)} signed"
        return
    walk.passed(WITNESSES, f"{', '.join(names)} saw this head; {needed} needed")


def _proven(walk: _Walk, proof: TlogProof, checkpoint: Checkpoint, entry: bytes | None) -> _Proven:
    walk.begin(PATH)
    encoded = proof.extra or entry or b""
    if root_from_inclusion(leaf_hash(encoded), proof.index, checkpoint.size, proof.path) != checkpoint.root:
        raise Rejected("tlog_proof_wrong", f"the path does not lead from entry {proof.index} to the checkpoint's root")
    read = decode(encoded)
    if read.seq != proof.index:
        raise Rejected("tlog_proof_wrong", f"the proof is of entry {proof.index}, and the entry says {read.seq}")
    walk.passed(PATH, f"entry {read.seq} leads to that root by {len(proof.path)} hashes")
    walk.begin(MEANING)
    body, plain = read_body(read)
    walk.passed(MEANING, "the entry is what its kind promises")
    return _Proven(entry=read, says=sentence(read, body), body=plain)

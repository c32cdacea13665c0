"""Checks a receipt file step by step and says what it proves.

Owns the order of the explanation. Must never decide about a signature or a path itself: `ledger/receipt.py` does, and
its code tells which step failed. Needs no box, no network and no driver.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor, cose, signature
from appliance.ledger.entry import Entry, entry_hash
from appliance.ledger.log_keys import VouchedHead
from appliance.ledger.receipt import VerifiedReceipt, head_protected, head_to_be_signed, verify_receipt
from appliance.ledger.trust import Trust, load_trust
from appliance.model.errors import Rejected, TillstoneError
from appliance.wire import entries
from provisioning.verify.bodies import Body, read_body
from provisioning.verify.hints import receipt_hint, trust_hint
from provisioning.verify.report import Report, Step
from provisioning.verify.second_opinion import Verify
from provisioning.verify.sentences import sentence
from provisioning.verify.wording import printable, short, time_text

TRUST, OWNER, FILE, ENTRIES, PATH, LOG = "trust file", "owner", "file", "entries", "path", "log"
CLASSICAL, POST_QUANTUM, VALUES, MEANING = "classical signature", "post-quantum signature", "disclosures", "meaning"
SECOND_OPINION, DISTRUST = "second opinion", "distrust"
ORDER: Final = (
    TRUST,
    OWNER,
    FILE,
    ENTRIES,
    PATH,
    LOG,
    CLASSICAL,
    POST_QUANTUM,
    DISTRUST,
    VALUES,
    SECOND_OPINION,
    MEANING,
)

_STEP_OF: Final = {
    "receipt_entry_malformed": ENTRIES,
    "receipt_index_mismatch": PATH,
    "receipt_proof_wrong": PATH,
    "receipt_size_mismatch": PATH,
    "receipt_log_mismatch": LOG,
    "receipt_log_unknown": LOG,
    "receipt_key_unknown": POST_QUANTUM,
    "log_key_distrusted": DISTRUST,
    "receipt_disclosure_wrong": VALUES,
    "second_opinion_differs": SECOND_OPINION,
    "entry_body_malformed": MEANING,
    "outcome_of_another_intent": MEANING,
}
# What a step says when it was passed but the facts are not at hand, because a later one failed.
_PASSED: Final = {
    FILE: "this is a receipt file of version 1",
    ENTRIES: "every entry is canonical",
    PATH: "the paths lead to one root",
    LOG: "both signatures name one log, and the owner vouched for it",
    CLASSICAL: "the classical signature fits",
    POST_QUANTUM: "the post-quantum signature fits",
    DISTRUST: "the owner takes no trust from these keys for this head, or others saw it in time",
    SECOND_OPINION: "liboqs agrees",
    VALUES: "every disclosed value is the one recorded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    step: str
    code: str
    detail: str
    hint: str


def check_receipt(
    file: bytes, trust_file: bytes, second_opinion: Verify | None = None, vouched: Collection[VouchedHead] = ()
) -> Report:
    """Check and explain; a fault of any kind is in the report, nothing is raised for any bytes.

    Args:
        vouched: heads that others are proven to have seen: what a key that the owner distrusts needs.
    """
    without = {DISTRUST, *([SECOND_OPINION] if second_opinion is None else [])}
    wanted = tuple([name for name in ORDER if name not in without])
    try:
        trust = load_trust(trust_file)
    except TillstoneError as refusal:
        step = OWNER if _is_about_signing(refusal.code) else TRUST
        passed = (Step(name=TRUST, ok=True, detail="this is a trust file"),) if step == OWNER else ()
        return _failed(
            wanted, passed, _Failed(step=step, code=refusal.code, detail=refusal.detail, hint=trust_hint(refusal.code))
        )
    steps = _trust_steps(trust)
    if any(keys.distrusted for keys in trust.keys.values()):
        wanted = tuple([name for name in ORDER if name not in without - {DISTRUST}])
    try:
        verified = verify_receipt(file, trust.keys, vouched)
        if second_opinion is not None:
            _require_agreement(file, verified, trust, second_opinion)
        read = [(entry, *read_body(entry)) for entry in verified.entries]
        _check_outcomes(read)
    except TillstoneError as refusal:
        failed = _Failed(
            step=_step_of(refusal.code),
            code=refusal.code,
            detail=refusal.detail,
            hint=receipt_hint(refusal.code, file, trust),
        )
        before = wanted[len(steps) : wanted.index(failed.step)]
        steps += tuple([Step(name=name, ok=True, detail=_PASSED[name]) for name in before])
        return _failed(wanted, steps, failed)
    facts = _facts(verified, trust)
    steps += tuple([Step(name=name, ok=True, detail=facts[name]) for name in wanted[len(steps) :]])
    return Report(
        steps=steps,
        entries=tuple([_plain_entry(entry, body, plain) for entry, body, plain in read]),
        sentences=tuple([_spoken(entry, body) for entry, body, _ in read]),
    )


def _failed(wanted: tuple[str, ...], passed: tuple[Step, ...], failed: _Failed) -> Report:
    detail = printable(failed.detail)
    return Report(
        steps=(*passed, Step(name=failed.step, ok=False, detail=detail)),
        code=failed.code,
        hint=failed.hint,
        not_reached=wanted[wanted.index(failed.step) + 1 :],
    )


def _is_about_signing(code: str) -> bool:
    return code.startswith(("classical_", "post_quantum_", "signature_", "owner_signature_", "genesis_", "cbor_"))


def _step_of(code: str) -> str:
    if code.startswith("classical_receipt_"):
        return CLASSICAL
    if code.startswith("post_quantum_receipt_"):
        return POST_QUANTUM
    return _STEP_OF.get(code, FILE)


def _trust_steps(trust: Trust) -> tuple[Step, ...]:
    logs = ", ".join(statement.origin for statement in trust.logs.values())
    return (
        Step(name=TRUST, ok=True, detail=f"it pins the owner with fingerprint {trust.owner.fingerprint}"),
        Step(
            name=OWNER,
            ok=True,
            detail=f"the owner signed the keys of {logs or 'no log'}, with ECDSA P-384 and with SLH-DSA-SHA2-256s",
        ),
    )


def _facts(verified: VerifiedReceipt, trust: Trust) -> dict[str, str]:
    statement = trust.logs[verified.log_id]
    keys = trust.keys[verified.log_id].at(verified.size).keys
    classical, post_quantum = keys.classical, keys.post_quantum
    seqs = [entry.seq for entry in verified.entries]
    which = f"entry {seqs[0]} is" if len(seqs) == 1 else f"{len(seqs)} entries from {min(seqs)} to {max(seqs)} are"
    names = ", ".join(printable(disclosure.name) for _, disclosure in verified.disclosures)
    return {
        FILE: _PASSED[FILE],
        ENTRIES: f"{which} canonical",
        PATH: f"each entry leads to root {short(verified.root)} of a log of size {verified.size}",
        LOG: f"{statement.origin}, log {short(verified.log_id)}",
        CLASSICAL: f"{signature.algorithm(classical.algorithm).name} by key {short(classical.key_id)}",
        POST_QUANTUM: f"{signature.algorithm(post_quantum.algorithm).name} by key {short(post_quantum.key_id)}",
        DISTRUST: _PASSED[DISTRUST],
        SECOND_OPINION: "liboqs, another implementation, says the same of the post-quantum signature",
        VALUES: f"each opens what was recorded: {names}" if names else "none in this file",
        MEANING: "each entry is what its kind promises",
    }


def _require_agreement(file: bytes, verified: VerifiedReceipt, trust: Trust, second_opinion: Verify) -> None:
    pinned = trust.keys[verified.log_id].at(verified.size).keys.post_quantum
    protected = head_protected(
        algorithm=pinned.algorithm, key_id=pinned.key_id, log_id=verified.log_id, size=verified.size
    )
    read = cbor.decode(file, size_max=len(file))
    receipts = read["receipts"] if isinstance(read, dict) else None
    for encoded in receipts if isinstance(receipts, list) else []:
        if isinstance(encoded, bytes):
            message = cose.decode_sign1(encoded, size_max=len(file))
            statement = head_to_be_signed(protected, verified.root)
            if message.protected_bytes == protected and second_opinion(
                pinned.algorithm, pinned.public_key, statement, message.signature
            ):
                return
    raise Rejected("second_opinion_differs", "liboqs does not accept the post-quantum signature")


def _check_outcomes(read: Sequence[tuple[Entry, Body, object]]) -> None:
    """An outcome shown together with intents answers one of them, and one of a sale that is shown."""
    intents = [(entry, body) for entry, body, _ in read if isinstance(body, entries.IntentEntry)]
    asked = {(entry_hash(entry.encoded), body.payment) for entry, body in intents}
    sold = {body.payment for _, body in intents if body.sale is not None}
    for entry, body, _ in read:
        if not (isinstance(body, entries.OutcomeEntry) and intents):
            continue
        if (body.intent, body.payment) not in asked:
            raise Rejected(
                "outcome_of_another_intent", f"the outcome in entry {entry.seq} answers no intent shown here"
            )
        # An offer is taken up by a later intent, which names the payment alone: it must be the one that was sold.
        if sold and body.payment not in sold:
            raise Rejected(
                "outcome_of_another_intent", f"the outcome in entry {entry.seq} belongs to no sale shown here"
            )


def _plain_entry(entry: Entry, body: Body, plain: dict[str, object]) -> dict[str, object]:
    return {
        "seq": entry.seq,
        "time": time_text(entry.time_ms),
        "kind": entry.kind,
        "actor": entry.actor,
        "says": sentence(entry, body),
        "body": plain,
    }


def _spoken(entry: Entry, body: Body) -> str:
    return f"entry {entry.seq}, recorded at {time_text(entry.time_ms)}: {sentence(entry, body)}"

"""Checks an evidence bundle part by part and tells its story in order of time.

Owns the order of the explanation and what counts as missing. Must never decide about a proof itself: that is done by
`ledger/evidence.py` and the formats. Needs no box, no network and no driver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from appliance.evidence.block import MAINNET, NETWORKS
from appliance.evidence.bundle import EvidenceBundle, HeadEvidence, read_bundle
from appliance.evidence.cid import cid_text
from appliance.evidence.cosignature import Cosignature, WitnessKey, WitnessPolicy
from appliance.evidence.timestamp import Attested
from appliance.ledger.checkpoint import Checkpoint
from appliance.ledger.evidence import (
    Demand,
    Published,
    verify_block,
    verify_head,
    verify_publication,
    verify_witnesses,
)
from appliance.ledger.log_keys import LogKeys, VouchedHead
from appliance.ledger.receipt import VerifiedReceipt, verify_receipt
from appliance.ledger.trust import NO_WITNESSES, load_trust
from appliance.model.errors import Rejected, TillstoneError
from provisioning.verify.block_words import (
    CONFIRMATIONS_WANTED,
    block_caveats,
    block_moment,
    block_text,
    confirmations_text,
)
from provisioning.verify.receipt_check import check_receipt
from provisioning.verify.report import Report, Step
from provisioning.verify.wording import printable, short, time_text

BUNDLE, CHECKPOINT, WITNESSES, BLOCK, PUBLICATION = "bundle", "checkpoint", "witnesses", "Bitcoin block", "publication"
PARTS: Final = (WITNESSES, BLOCK, PUBLICATION)
"""What a bundle may lack; `--require` names them."""

_T = TypeVar("_T")
_HINTS: Final = {
    "evidence_malformed": "These bytes are no evidence bundle: another kind of file, or one damaged or cut short.",
    "evidence_path_wrong": "The entry is not in the log that this checkpoint is about, or the path was changed.",
    "evidence_paths_missing": "The bundle was put together from parts of others.",
    "evidence_publication_wrong": "The published data is about another state of the log, or its parts were changed.",
    "publication_tiles_wrong": "The published hashes are not those of this log.",
    "publication_not_in_log": "The published hashes are not those of this log.",
    "block_unconfirmed": "The block is genuine, and too few stand on it. Ask for a newer bundle, or --confirmations.",
    "evidence_missing": "What the bundle holds is genuine. Ask the shop for a newer one: evidence gathers with time.",
    "checkpoint_origin_unknown": "The checkpoint is another log's than the receipt's: the bundle was put together.",
    "checkpoint_signature_missing": "A signature by each of the log's two keys is needed.",
    "checkpoint_signature_wrong": "What was signed, or the signature, was changed afterwards.",
    "cosignature_wrong": "A line that bears a known witness's name was not made by that witness.",
    "timestamp_of_another_digest": "The timestamp belongs to another checkpoint.",
    "timestamp_pending": "A calendar promised this timestamp, and no block holds it yet. Ask for a newer bundle.",
    "timestamp_other_network": "The timestamp is of another block chain than the one asked for: see --network.",
    "block_other_network": "The block headers are of another network: see --network.",
    "block_work_low": "Too little work stands behind these headers: anybody could have made them.",
}


_UNPROVEN: Final = (
    "that anybody keeps what lies at this address is the box's word alone: fetch it, `tillstone audit open` checks it;"
    " its sealed entries open for the auditor alone"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the bundle must hold besides being right, and the reader's clock.

    Attributes:
        required: of PARTS; a bundle without one of them fails with `evidence_missing`.
        confirmations: of the block; with fewer it fails with `block_unconfirmed` where a block is required.
        now_ms: by which times of blocks that lie ahead are told.
    """

    required: Sequence[str] = ()
    confirmations: int = CONFIRMATIONS_WANTED
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """One head with what was proven of it."""

    checkpoint: Checkpoint
    cosignatures: tuple[Cosignature, ...]
    witnessed: tuple[str, ...]
    needed: int
    has_timestamp: bool
    block: Attested | None
    published: Published | None
    is_published_by_distrusted: bool = False


class _Failed(Exception):
    def __init__(self, step: str, error: TillstoneError) -> None:
        super().__init__(error.code)
        self.step = step
        self.error = error


def check_bundle(file: bytes, trust_file: bytes, demand: Demand, wanted: Wanted) -> Report:
    """Check and explain; a fault of any kind is in the report, nothing is raised for any bytes."""
    try:
        bundle = read_bundle(file)
    except TillstoneError as error:
        return _refused(Report(steps=()), _Failed(BUNDLE, error))
    try:
        trust = load_trust(trust_file)
        # Whom the owner distrusts is asked below, when it is known what others saw.
        receipt = verify_receipt(bundle.receipt, {log_id: keys.without(()) for log_id, keys in trust.keys.items()})
    except TillstoneError:
        return check_receipt(bundle.receipt, trust_file)  # explains it
    keys, heads = trust.keys[receipt.log_id], list[_Head]()
    origin = trust.logs[receipt.log_id].origin
    failed: _Failed | None = None
    for head in bundle.heads:
        try:
            heads.append(_disowned(_checked(head, receipt, origin, keys.without(()), demand), keys))
            _require_order(heads)
        except _Failed as fault:
            failed = fault
            break
    vouched = [
        each for head, known in zip(bundle.heads, heads, strict=False) for each in _vouched(head, known, receipt)
    ]
    report = check_receipt(bundle.receipt, trust_file, vouched=vouched)
    if not report.ok:
        return report
    if failed is None:
        failed = _distrusted(keys, heads, vouched)
    if failed is not None:
        return _refused(replace(report, steps=(*report.steps, *_steps(heads, demand))), failed)
    return _told(report, bundle, receipt, heads, demand, wanted)


def demand_of(trust_file: bytes, vkeys: Sequence[str], needed: int | None, network: str | None) -> Demand:
    """Whom the holder of the trust file believes, with what was said on the command line.

    Args:
        vkeys: further witnesses; with them, and no `needed`, all must have signed.
    Raises:
        Rejected: `witness_key_malformed`, `witness_policy_invalid`.
    """
    try:
        trust = load_trust(trust_file)
        policy, chain = trust.witnesses, trust.network
    except TillstoneError:
        policy, chain = NO_WITNESSES, MAINNET  # the check says what is wrong with the file
    keys = (*policy.keys, *[WitnessKey.from_vkey(vkey) for vkey in vkeys])
    names = {key.name for key in keys}
    if needed is None:
        needed = len(names) if vkeys else policy.needed
    return Demand(
        witnesses=WitnessPolicy(keys=keys, needed=needed), network=chain if network is None else NETWORKS[network]
    )


def _checked(head: HeadEvidence, receipt: VerifiedReceipt, origin: str, keys: LogKeys, demand: Demand) -> _Head:
    checkpoint = _at(CHECKPOINT, lambda: verify_head(head, receipt, origin=origin, keys=keys))
    cosignatures = _at(WITNESSES, lambda: verify_witnesses(head, checkpoint, demand))
    return _Head(
        checkpoint=checkpoint,
        cosignatures=cosignatures,
        witnessed=demand.witnesses.witnessed(cosignatures),
        needed=demand.witnesses.needed,
        has_timestamp=head.timestamp is not None,
        block=_at(BLOCK, lambda: verify_block(head, demand)),
        published=_at(PUBLICATION, lambda: verify_publication(head, checkpoint, keys=keys)),
    )


def _disowned(head: _Head, keys: LogKeys) -> _Head:
    """Without a publication that only a key vouches for which the owner distrusts: nobody saw when that was signed."""
    if head.published is None or not keys.distrusts(head.published.signed_by):
        return head
    return replace(head, published=None, is_published_by_distrusted=True)


def _require_order(heads: Sequence[_Head]) -> None:
    sizes = [head.checkpoint.size for head in heads[-2:]]
    if len(sizes) == 2 and sizes[0] >= sizes[1]:
        detail = f"expected heads smallest first and each once, saw {sizes[1]} entries after {sizes[0]}"
        raise _Failed(CHECKPOINT, Rejected("evidence_malformed", detail))


def _vouched(head: HeadEvidence, known: _Head, receipt: VerifiedReceipt) -> list[VouchedHead]:
    """What others are proven to have seen of this head, and when at the latest."""
    times_ms = []
    if known.witnessed and len(known.witnessed) >= max(1, known.needed):
        # The moment at which the last witness that is needed had signed with its last key.
        signed_s = sorted(max(c.time_s for c in known.cosignatures if c.key.name == name) for name in known.witnessed)
        times_ms.append(1_000 * signed_s[max(1, known.needed) - 1])
    if known.block is not None:
        times_ms.append(1_000 * known.block.time_s)
    checkpoint = known.checkpoint
    return [
        VouchedHead(
            log_id=receipt.log_id, size=checkpoint.size, root=checkpoint.root, time_ms=time_ms, paths=head.paths
        )
        for time_ms in times_ms
    ]


def _distrusted(keys: LogKeys, heads: Sequence[_Head], vouched: Sequence[VouchedHead]) -> _Failed | None:
    for head in heads:
        try:
            keys.require_trusted(head.checkpoint.size, head.checkpoint.root, vouched)
        except TillstoneError as error:
            return _Failed(CHECKPOINT, error)
    return None


def _at(step: str, check: Callable[[], _T]) -> _T:
    try:
        return check()
    except TillstoneError as error:
        raise _Failed(step, error) from error


def _told(
    report: Report,
    bundle: EvidenceBundle,
    receipt: VerifiedReceipt,
    heads: Sequence[_Head],
    demand: Demand,
    wanted: Wanted,
) -> Report:
    absent = _absent(heads, demand)
    steps = (Step(name=BUNDLE, ok=True, detail=f"a receipt and {_count(len(bundle.heads), 'head')}"), *report.steps)
    steps += _steps(heads, demand)
    caveats = _caveats(heads, demand, wanted)
    facts: dict[str, object] = {
        "missing": list(absent),
        "caveats": [{"name": name, "detail": detail} for name, detail in caveats],
        "heads": [_plain(head) for head in heads],
    }
    sentences = _timeline(report, receipt, heads)
    told = replace(report, steps=steps, absent=absent, caveats=caveats, facts=facts, sentences=sentences)
    unmet = _unmet(heads, absent, wanted)
    if unmet is not None:
        step, code = unmet
        return replace(told, steps=(*steps, step), code=code, hint=_HINTS[code])
    if absent:
        return replace(told, verdict=f"is genuine, without evidence by {', '.join(absent)}")
    return told


def _unmet(heads: Sequence[_Head], absent: dict[str, str], wanted: Wanted) -> tuple[Step, str] | None:
    """What was demanded and is not there, with its code."""
    missing = [part for part in PARTS if part in wanted.required and part in absent]
    if missing:
        detail = f"expected evidence by {', '.join(missing)}, and there is none: {absent[missing[0]]}"
        return Step(name=missing[0], ok=False, detail=detail), "evidence_missing"
    if BLOCK not in wanted.required:
        return None
    best = max([head.block for head in heads if head.block is not None], key=lambda block: block.confirmations)
    if best.confirmations >= wanted.confirmations:
        return None
    detail = f"expected at least {wanted.confirmations}, saw {confirmations_text(best)}"
    return Step(name=BLOCK, ok=False, detail=detail), "block_unconfirmed"


def _caveats(heads: Sequence[_Head], demand: Demand, wanted: Wanted) -> tuple[tuple[str, str], ...]:
    """What is right and must still be read with care, each once."""
    blocks = [head.block for head in heads if head.block is not None]
    found = [
        (BLOCK, text)
        for block in blocks
        for text in block_caveats(block, demand.network, wanted=wanted.confirmations, now_ms=wanted.now_ms)
    ]
    if any(head.published for head in heads):
        found.append((PUBLICATION, _UNPROVEN))
    return tuple(dict.fromkeys(found))


def _absent(heads: Sequence[_Head], demand: Demand) -> dict[str, str]:
    """The parts that nothing in the bundle proves, and why."""
    absent: dict[str, str] = {}
    needed, known = demand.witnesses.needed, len(demand.witnesses.names)
    most = max([len(head.witnessed) for head in heads], default=0)
    if not known:
        absent[WITNESSES] = "the trust file names no witness, so none can be believed"
    elif most < max(1, needed):
        absent[WITNESSES] = f"{max(1, needed)} of {known} known witnesses are needed, at most {most} signed one head"
    if not any(head.block for head in heads):
        absent[BLOCK] = (
            "a timestamp is there, and no header of its block: nothing shows the work behind it"
            if any(head.has_timestamp for head in heads)
            else "no head in the bundle is anchored in a block yet"
        )
    if not any(head.published for head in heads):
        absent[PUBLICATION] = (
            "only a key that the owner distrusts says so"
            if any(head.is_published_by_distrusted for head in heads)
            else "no head in the bundle was published"
        )
    return absent


def _steps(heads: Sequence[_Head], demand: Demand) -> tuple[Step, ...]:
    steps: list[Step] = []
    for head in heads:
        size = head.checkpoint.size
        steps.append(
            Step(
                name=CHECKPOINT,
                ok=True,
                detail=f"{size} entries, root {short(head.checkpoint.root)}, signed by both keys; covers the receipt",
            )
        )
        if head.cosignatures:
            names = ", ".join(head.witnessed) or "nobody in full"
            steps.append(
                Step(name=WITNESSES, ok=True, detail=f"{names} saw this head; {demand.witnesses.needed} needed")
            )
        if head.block is not None:
            steps.append(Step(name=BLOCK, ok=True, detail=block_text(head.block, demand.network)))
        if head.published is not None:
            steps.append(Step(name=PUBLICATION, ok=True, detail=_published_text(head.published)))
    return tuple(steps)


def _published_text(published: Published) -> str:
    return (
        f"{cid_text(published.cid)} names this head and {_count(published.tiles, 'tile')} of hashes that lead to it;"
        " both keys of the log signed this address"
    )


def _timeline(report: Report, receipt: VerifiedReceipt, heads: Sequence[_Head]) -> tuple[str, ...]:
    """What happened, in order; each time says whose clock it is."""
    moments: list[tuple[int, str]] = []
    for head in heads:
        size = head.checkpoint.size
        for name in head.witnessed:
            time_ms = 1_000 * min(item.time_s for item in head.cosignatures if item.key.name == name)
            moments.append((time_ms, f"{time_text(time_ms)} by its own clock: {name} saw the log of {size} entries"))
        if head.block is not None:
            moments.append((1_000 * head.block.time_s, block_moment(head.block, size)))
    signed = f"signed by both keys of {short(receipt.log_id)} as part of a log of {receipt.size} entries"
    published = [
        f"to be read back as {cid_text(head.published.cid)}: entries {head.published.first} to {head.published.end - 1}"
        for head in heads
        if head.published is not None
    ]
    return (*report.sentences, signed, *[text for _, text in sorted(moments)], *published)


def _plain(head: _Head) -> dict[str, object]:
    block = head.block
    return {
        "size": head.checkpoint.size,
        "root": head.checkpoint.root.hex(),
        "witnesses": {
            item.key.name: time_text(1_000 * item.time_s)
            for item in head.cosignatures
            if item.key.name in head.witnessed
        },
        "block": None
        if block is None
        else {
            "height": block.height,
            "hash": block.block_hash[::-1].hex(),
            "time": time_text(1_000 * block.time_s),
            "confirmations": block.confirmations,
        },
        "publication": None if head.published is None else cid_text(head.published.cid),
    }


def _refused(report: Report, failed: _Failed) -> Report:
    error = failed.error
    hint = _HINTS.get(error.code, "This part of the bundle was changed, cut, or belongs to something else.")
    step = Step(name=failed.step, ok=False, detail=printable(error.detail))
    parts = (BUNDLE, CHECKPOINT, *PARTS)
    return replace(
        report,
        steps=(*report.steps, step),
        code=error.code,
        hint=hint,
        not_reached=parts[parts.index(failed.step) + 1 :],
        entries=(),
        sentences=(),
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

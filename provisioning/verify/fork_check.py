"""Checks whether two files prove that a log was forked: that its own keys signed two stories.

Owns the explanation. Must never decide itself what contradicts: `ledger/fork.py` does.
"""

from __future__ import annotations

from typing import Final

from appliance.ledger.fork import Fork, Told, fork_of, read_told
from appliance.ledger.trust import Trust, load_trust
from appliance.model.errors import TillstoneError
from provisioning.verify.hints import trust_hint
from provisioning.verify.report import Report, Step
from provisioning.verify.wording import printable, short

TRUST, FIRST, SECOND, CONTRADICTION = "trust file", "first file", "second file", "contradiction"
ORDER: Final = (TRUST, FIRST, SECOND, CONTRADICTION)
_NO_FORK_HINT: Final = (
    "Both may be true of one honest log. Heads of different sizes contradict each other only where both show the same"
    " place: ask for two receipts of one entry, or for two checkpoints of one size."
)


def check_fork(first: bytes, second: bytes, trust_file: bytes) -> Report:
    """Check and explain two receipts or checkpoints; ok means that they prove a fork."""
    try:
        trust = load_trust(trust_file)
    except TillstoneError as refusal:
        return _failed((), TRUST, refusal.code, refusal.detail, trust_hint(refusal.code))
    steps: tuple[Step, ...] = (
        Step(name=TRUST, ok=True, detail=f"it pins the owner with fingerprint {trust.owner.fingerprint}"),
    )
    told: list[Told] = []
    for name, file in ((FIRST, first), (SECOND, second)):
        try:
            told.append(read_told(file, trust))
        except TillstoneError as refusal:
            return _failed(
                steps, name, refusal.code, refusal.detail, "Only what the log's keys signed proves anything."
            )
        steps += (Step(name=name, ok=True, detail=_told_text(told[-1], trust)),)
    fork = fork_of(*told)
    if fork is None:
        detail = "the two do not contradict each other"
        return _failed(steps, CONTRADICTION, "fork_not_proven", detail, _NO_FORK_HINT)
    return Report(
        steps=(*steps, Step(name=CONTRADICTION, ok=True, detail=_fork_text(fork))),
        verdict="is proven: the keys of this log signed two stories that cannot both be true",
        facts={"log": fork.log_id.hex(), "sizes": list(fork.sizes), "seq": fork.seq},
    )


def _told_text(told: Told, trust: Trust) -> str:
    shown = f", showing entries {', '.join(map(str, sorted(told.leaves)))}" if told.leaves else ""
    origin = trust.logs[told.log_id].origin
    return f"both keys of {origin} signed {told.size} entries, root {short(told.root)}{shown}"


def _fork_text(fork: Fork) -> str:
    if fork.seq is None:
        return f"one log of {fork.sizes[0]} entries has one root, and here are two"
    return f"place {fork.seq} holds one entry, and here are two"


def _failed(passed: tuple[Step, ...], step: str, code: str, detail: str, hint: str) -> Report:
    return Report(
        steps=(*passed, Step(name=step, ok=False, detail=printable(detail))),
        code=code,
        hint=hint,
        not_reached=ORDER[ORDER.index(step) + 1 :],
    )

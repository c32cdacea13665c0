"""Checks a whole log, from an exported file or a ledger's folder, in constant memory.

Owns the explanation. Must never decide itself what is right: `ledger/verify.py` and `ledger/export.py` do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from appliance.crypto import signature
from appliance.crypto.hybrid import HybridPublic
from appliance.ledger.export import verify_export
from appliance.ledger.trust import Trust, load_trust
from appliance.ledger.verify import BadEntry, VerifiedLog, verify_log
from appliance.model.errors import Corrupt, TillstoneError
from provisioning.commands.outcome import CannotDo
from provisioning.verify.hints import log_hint, trust_hint
from provisioning.verify.ledger_folder import open_folder
from provisioning.verify.progress import Progress, counted, open_counted
from provisioning.verify.report import Report, Step
from provisioning.verify.wording import printable, short

TRUST, ENTRIES, HEAD, SIGNATURES, TABLES = "trust file", "entries", "head", "signatures", "tables"
ORDER: Final = (TRUST, ENTRIES, HEAD, SIGNATURES)
FOLDER_SIGNATURES: Final = (
    "a folder holds none: it agrees with itself and its owner; export the log to prove it to others"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    log: VerifiedLog
    signatures: str
    verdict: str


def check_log(
    path: Path, trust_file: bytes, progress: Progress, *, check_bodies: bool = False, check_tables: bool = False
) -> Report:
    """Check and explain. Raises CannotDo when `path` is neither a readable file nor a ledger's folder.

    Args:
        check_tables: of a folder, whose box is stopped, also compare its tables with a replay of the entries.
    """
    try:
        trust = load_trust(trust_file)
    except TillstoneError as refusal:
        return _failed((), TRUST, refusal, trust_hint(refusal.code))
    steps = (Step(name=TRUST, ok=True, detail=f"it pins the owner with fingerprint {trust.owner.fingerprint}"),)
    check: Callable[[Path, Trust, Progress, bool], _Checked] = _check_folder if path.is_dir() else _check_file
    started = time.perf_counter()
    try:
        checked = check(path, trust, progress, check_bodies)
    except TillstoneError as refusal:
        step = _step_of(refusal)
        passed = tuple([Step(name=name, ok=True, detail="right") for name in ORDER[1 : ORDER.index(step)]])
        return _failed((*steps, *passed), step, refusal, log_hint(refusal.code))
    report = _passed(steps, checked, time.perf_counter() - started)
    return _with_tables(report, path) if check_tables else report


def _check_file(path: Path, trust: Trust, progress: Progress, check_bodies: bool) -> _Checked:
    try:
        with open_counted(path, progress) as file:
            verified = verify_export(file, trust, check_bodies=check_bodies)
    except OSError as cause:
        raise CannotDo(f"{path} cannot be read: {cause.strerror}", "check the name of the file") from cause
    return _Checked(log=verified.log, signatures=_keys(verified.keys), verdict="is genuine")


def _check_folder(path: Path, trust: Trust, progress: Progress, check_bodies: bool) -> _Checked:
    with open_folder(path) as folder:
        progress.begin(folder.head.size)
        log = verify_log(
            counted(folder.entries(), progress),
            owner=trust.owner,
            stored_tile=folder.stored_tile,
            check_bodies=check_bodies,
        )
        if (log.size, log.root) != (folder.head.size, folder.head.root):
            raise Corrupt(
                "head_mismatch",
                f"expected {folder.head.size} entries and root {short(folder.head.root)},"
                f" saw {log.size} and {short(log.root)}",
            )
    return _Checked(log=log, signatures=FOLDER_SIGNATURES, verdict="agrees with itself and with its owner")


def _with_tables(report: Report, path: Path) -> Report:
    if not path.is_dir():
        raise CannotDo("an exported log has no tables", "name the folder of a stopped box, or leave --tables out")
    try:
        with open_folder(path) as folder:
            rows = folder.check_tables()
    except TillstoneError as refusal:
        step = Step(name=TABLES, ok=False, detail=printable(refusal.detail))
        return Report(steps=(*report.steps, step), code=refusal.code, hint=log_hint(refusal.code))
    return replace(report, steps=(*report.steps, Step(name=TABLES, ok=True, detail=f"{rows:,} rows, as replayed")))


def _passed(steps: tuple[Step, ...], checked: _Checked, seconds: float) -> Report:
    log = checked.log
    rate = round(log.size / seconds) if seconds else 0
    origin = "" if log.genesis is None else log.genesis.origin
    return Report(
        steps=(
            *steps,
            Step(name=ENTRIES, ok=True, detail=_entries_text(log, origin)),
            Step(name=HEAD, ok=True, detail=f"size {log.size}, root {log.root.hex()}"),
            Step(name=SIGNATURES, ok=True, detail=checked.signatures),
            Step(name="speed", ok=True, detail=f"{rate:,} entries/s"),
        ),
        verdict=checked.verdict,
        facts={
            "origin": origin,
            "log": "" if log.log_id is None else log.log_id.hex(),
            "size": log.size,
            "pruned": log.pruned,
            "root": log.root.hex(),
            "entries_per_second": rate,
        },
    )


def _entries_text(log: VerifiedLog, origin: str) -> str:
    if not log.pruned:
        return f"{log.size:,} of {origin}, each canonical, in order, in the chain"
    return (
        f"{log.size:,} of {origin}; {log.pruned:,} were pruned: their hashes are in the tree, what they said is not"
        f" here; the other {log.size - log.pruned:,} are canonical, in order and, beside their neighbours, in the chain"
    )


def _keys(keys: HybridPublic) -> str:
    return ", ".join(
        f"{signature.algorithm(key.algorithm).name} by key {short(key.key_id)}"
        for key in (keys.classical, keys.post_quantum)
    )


def _step_of(refusal: TillstoneError) -> str:
    if refusal.code.startswith(("classical_head", "post_quantum_head", "head_key")):
        return SIGNATURES
    if refusal.code in ("export_head_mismatch", "export_log_unknown", "head_mismatch"):
        return HEAD
    return ENTRIES


def _failed(passed: tuple[Step, ...], step: str, refusal: TillstoneError, hint: str) -> Report:
    facts: dict[str, object] = {"first_bad_entry": refusal.seq} if isinstance(refusal, BadEntry) else {}
    return Report(
        steps=(*passed, Step(name=step, ok=False, detail=printable(refusal.detail))),
        code=refusal.code,
        hint=hint,
        not_reached=ORDER[ORDER.index(step) + 1 :],
        facts=facts,
    )

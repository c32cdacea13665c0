"""Runs a ceremony: which steps are left, one after the other, each written down before the next.

Owns the order of the two visits, what a dry run says, and what is told meanwhile. Must never begin the second visit
with an answer that has a fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from appliance.crypto.owner import OwnerPublic
from appliance.device.retirement import retired_for
from appliance.ledger.trust import load_trust
from provisioning.box import private_folder, private_umask
from provisioning.ceremony import stick as sticks
from provisioning.ceremony.devices import (
    FIRST_VISIT,
    OF_THE_PIN,
    box_seed,
    is_another_makers,
    request_of,
    still_opens,
)
from provisioning.ceremony.install import KEPT, SECOND_VISIT, STATE_KEY, keep_site
from provisioning.ceremony.record import Done, Record, add_step, forget_steps, only_installer, read_record
from provisioning.ceremony.site_check import check_site, require_owner
from provisioning.ceremony.steps import Place, Step
from provisioning.ceremony.stick import TRUST, SignedSite
from provisioning.ceremony.transcript import NAME as TRANSCRIPT
from provisioning.commands.outcome import CannotDo
from provisioning.site.request import NAME as REQUEST
from provisioning.swtpm import make_swtpm, powered_tpm

SITE: Final = Step(name="site", title="the owner's answer is checked and kept", run=lambda _place: {})
State = Literal["done", "now", "to do"]
Tell = Callable[[Step, State, int], None]
"""Told of each step: its state, and for one that was done now the milliseconds it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How far the ceremony came.

    Attributes:
        is_open: the box may start.
        fingerprint: of the box's request, for the owner to compare.
    """

    is_open: bool
    serial: str
    fingerprint: str


def all_steps() -> tuple[Step, ...]:
    """In their order."""
    return (*FIRST_VISIT, SITE, *SECOND_VISIT)


def provision(
    folder: Path,
    *,
    stick: Path | None,
    tcti: str | None,
    serial: str | None,
    tell: Tell,
    state_key: Path | None = None,
) -> Outcome:
    """Do what is left to do, as far as the stick lets.

    Args:
        tcti: of the machine's TPM; None makes a software TPM in the folder, for trying.
        serial: of a new box; None: by its TPM's certificate.
        state_key: as `Place` has it.
    Raises:
        CannotDo: another installer is at work, or the folder is somebody else's.
        SiteRefused: the answer on the stick has faults; nothing was changed.
        BoxFailed, SwtpmError, TokenFailed, TpmError, HsmError: a device did not do its part; run again.
    """
    folder = private_folder(folder)
    with only_installer(folder), private_umask():
        if retired_for(folder / "data") is not None:
            raise CannotDo(f"the box in {folder} is retired (box_retired)", "empty the folder to begin a new box")
        if is_another_makers(folder):
            raise CannotDo(f"the box in {folder} was not made by a ceremony", "name another folder")
        if folder.joinpath("tillstone.toml").exists() and _is_done(read_record(folder)):
            return _finished(folder, stick, tell)
        if tcti is None:
            make_swtpm(folder / "tpm")
        with powered_tpm(folder / "tpm", tcti) as address:
            place = Place(folder=folder, tcti=address, serial=serial, record=read_record(folder), state_key=state_key)
            return _continue(place, stick, tell)


def plan(folder: Path, *, stick: Path | None, tell: Tell) -> SignedSite | None:
    """A dry run: each step and whether it is done. Touches nothing, not even the TPM.

    Returns:
        The answer on the stick, once its owner's signature was checked; what is sealed in it stays so.
    Raises:
        SiteRefused: the answer is not signed, or by another owner.
    """
    record = read_record(folder)
    for step in all_steps():
        tell(step, "to do" if record.facts(step.name) is None else "done", 0)
    signed = None if stick is None else sticks.read_signed_site(stick)
    if signed is not None:
        require_owner(signed, pinned_owner(folder))
    return signed


def pinned_owner(folder: Path) -> OwnerPublic | None:
    """The owner whom this box believes, from its first answer on."""
    kept = folder / KEPT / TRUST
    return load_trust(kept.read_bytes()).owner if kept.exists() else None


def _continue(place: Place, stick: Path | None, tell: Tell) -> Outcome:
    if place.record.facts(SITE.name) is None and not still_opens(place):
        # Nothing is built on these keys yet, and the owner is asked anew in any case.
        place = replace(place, record=forget_steps(place.folder, OF_THE_PIN))
    place = _run(FIRST_VISIT, place, tell)
    request = request_of(place)
    if place.record.facts(SITE.name) is None:
        _write_if_new(place, REQUEST, request.encode())
        if stick is not None:
            # Also beside an answer: when that is to an older request, the owner finds the new one.
            sticks.put(stick, REQUEST, request.encode())
        signed = None if stick is None else sticks.read_signed_site(stick)
        if signed is None:
            return Outcome(is_open=False, serial=request.serial, fingerprint=request.fingerprint)
        checked = check_site(signed, request, pinned_owner(place.folder), lambda: box_seed(place))
        step = replace(SITE, run=lambda at: keep_site(at, signed, checked))
        place = _run((step,), place, tell)
    else:
        tell(SITE, "done", 0)
    place = _run(SECOND_VISIT, place, tell)
    return _handed_over(place.folder, stick)


def _run(steps: tuple[Step, ...], place: Place, tell: Tell) -> Place:
    for step in steps:
        if place.record.facts(step.name) is not None:
            tell(step, "done", 0)
            continue
        began_ms = time.time_ns() // 1_000_000
        facts = step.run(place)
        ended_ms = time.time_ns() // 1_000_000
        done = Done(name=step.name, began_ms=began_ms, ended_ms=ended_ms, facts=dict(facts))
        place = replace(place, record=add_step(place.folder, done))
        tell(step, "now", ended_ms - began_ms)
    return place


def _finished(folder: Path, stick: Path | None, tell: Tell) -> Outcome:
    for step in all_steps():
        tell(step, "done", 0)
    return _handed_over(folder, stick)


def _handed_over(folder: Path, stick: Path | None) -> Outcome:
    if stick is not None:
        for name in (TRANSCRIPT, STATE_KEY):
            if (folder / name).exists():
                sticks.put(stick, name, (folder / name).read_bytes())
    facts = read_record(folder).facts(SITE.name) or {}
    serial = str((read_record(folder).facts("tpm") or {})["serial"])
    return Outcome(is_open=True, serial=serial, fingerprint=str(facts["request_sha256"]))


def _is_done(record: Record) -> bool:
    return all(record.facts(step.name) is not None for step in all_steps())


def _write_if_new(place: Place, name: str, content: bytes) -> None:
    path = place.folder / name
    if not path.exists() or path.read_bytes() != content:
        place.write(name, content)

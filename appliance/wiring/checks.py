"""The health checks of this box, in plain words: what is so, what it means for sales, what to do next."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.adapters.hsm_link import HsmState
from appliance.adapters.tpm_sealer import SealerState
from appliance.device.admission import Quarantine
from appliance.device.health import Check, Finding, Level
from appliance.ledger.head import SigningLag
from appliance.ledger.ledger import Ledger
from appliance.wiring.trust import Trust

LATE_MS: Final = 5_000
"""A head is signed within a second; this late, somebody should know."""


def checks(
    *,
    trust: Trust,
    ledger: Ledger,
    quarantine: Quarantine,
    folder: Path,
    room_bytes_min: int,
    is_test_token: bool,
    followers: Sequence[Check],
) -> Sequence[Check]:
    """In the order in which a person should read them."""

    def log() -> Finding:
        if quarantine.reason is not None:
            return Finding(
                check="log",
                level=Level.STOPPED,
                sentence=f"Quarantined: {quarantine.reason}.",
                next_step="Do not switch it off; call whoever looks after the box.",
            )
        return Finding(check="log", level=Level.OK, sentence=f"The log holds {ledger.head.size} entries.")

    def token() -> Finding:
        sentence = "The token is SoftHSM, a test token: keys lie in files." if is_test_token else "The token is in use."
        return Finding(check="token", level=Level.OK, sentence=sentence)

    def disk() -> Finding:
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
        if free >= room_bytes_min:
            return Finding(check="disk", level=Level.OK, sentence=f"{free >> 20} MB are free.")
        return Finding(
            check="disk",
            level=Level.STOPPED,
            sentence=f"Only {free >> 20} MB are free; new sales wait until {room_bytes_min >> 20} MB are.",
            next_step="Free some space on the data disk; sales start again by themselves.",
        )

    signing, tpm = device_checks(trust, ledger)
    return log, signing, token, tpm, disk, *followers


def device_checks(trust: Trust, ledger: Ledger) -> tuple[Check, Check]:
    """Of the HSM and of the TPM."""

    def signing() -> Finding:
        return signing_finding(trust.link.state, ledger.signing_lag)

    def tpm() -> Finding:
        if trust.sealer is None:
            return Finding(check="tpm", level=Level.COPING, sentence="No TPM is set up: a rolled-back log goes unseen.")
        return tpm_finding(trust.sealer.state)

    return signing, tpm


def signing_finding(state: HsmState, lag: SigningLag) -> Finding:
    """What the HSM's state means for receipts; what the device itself said stands in the next step."""
    if state.kind == "ok" and lag.age_ms < LATE_MS:
        return Finding(check="signing", level=Level.OK, sentence="Receipts are signed.")
    entries = "1 entry waits" if lag.entries == 1 else f"{lag.entries} entries wait"
    waiting = f"{entries} for a signature" if lag.entries else "no entry waits for a signature"
    said = f" It said: {state.reason}." if state.reason else ""
    match state.kind:
        case "ok":
            return Finding(
                check="signing",
                level=Level.COPING,
                sentence=f"Signatures are late; {waiting}.",
                next_step="Wait a minute; if it stays so, look at the load of the HSM.",
            )
        case "degraded":
            return Finding(
                check="signing",
                level=Level.COPING,
                sentence=f"The HSM does not answer; {waiting}.",
                next_step=f"Check the HSM's cable and power; it is tried again by itself.{said}",
            )
        case "away":
            return Finding(
                check="signing",
                level=Level.STOPPED,
                sentence=f"The HSM refused the PIN or a key; {waiting}.",
                next_step=f"A person must look: it is not tried again, so that the PIN is not locked.{said}",
            )


def tpm_finding(state: SealerState) -> Finding:
    """What the TPM's state means: nothing for sales, everything for the next start."""
    if state.kind == "ok":
        return Finding(check="tpm", level=Level.OK, sentence="The TPM answers.")
    what = "The TPM does not answer" if state.kind == "away" else "The TPM answers, but refuses to work"
    return Finding(
        check="tpm",
        level=Level.COPING,
        sentence=f"{what}; sales go on, the next start needs it.",
        next_step=f"Before the next restart, see that the TPM works. It said: {state.reason}.",
    )

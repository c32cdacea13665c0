"""The health checks of this box, in plain words: what is so, what it means for sales, what to do next."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from appliance.device.admission import Quarantine
from appliance.device.health import Check, Finding, Level
from appliance.ledger.ledger import Ledger
from appliance.wiring.trust import Trust


def checks(
    *, trust: Trust, ledger: Ledger, quarantine: Quarantine, folder: Path, room_bytes_min: int, is_test_token: bool
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

    def signing() -> Finding:
        lag = ledger.signing_lag
        state = trust.link.state
        if state.kind == "ok" and lag.age_ms < 5_000:
            return Finding(check="signing", level=Level.OK, sentence="Receipts are signed.")
        waiting = f"{lag.entries} entries wait for a signature" if lag.entries else "nothing waits for a signature"
        return Finding(
            check="signing",
            level=Level.COPING if state.kind != "away" else Level.STOPPED,
            sentence=f"The HSM is {state.kind}: {state.reason or 'signatures are late'}; {waiting}.",
            next_step="Check the HSM's cable and power; it is tried again by itself."
            if state.kind != "away"
            else "A person must look: the PIN or a key was refused and is not tried again.",
        )

    def token() -> Finding:
        sentence = "The token is SoftHSM, a test token: keys lie in files." if is_test_token else "The token is in use."
        return Finding(check="token", level=Level.OK, sentence=sentence)

    def tpm() -> Finding:
        if trust.sealer is None:
            return Finding(check="tpm", level=Level.COPING, sentence="No TPM is set up: a rolled-back log goes unseen.")
        state = trust.sealer.state
        if state.kind == "ok":
            return Finding(check="tpm", level=Level.OK, sentence="The TPM answers.")
        return Finding(
            check="tpm",
            level=Level.COPING,
            sentence=f"The TPM is {state.kind}: {state.reason}; sales go on, the next start needs it.",
            next_step="Before the next restart, see that the TPM answers.",
        )

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

    return log, signing, token, tpm, disk

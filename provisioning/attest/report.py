"""What was proven about a box, in plain words. Owns the wording; `check` decides."""

from __future__ import annotations

from typing import Final

from appliance.model.errors import TillstoneError
from appliance.wire.attestation import Attestation
from provisioning.attest.check import STEPS, Attested, Demand, Steps, judge
from provisioning.verify.report import Report, Step
from provisioning.verify.wording import printable, short, time_text

_HINTS: Final = {
    "attestation_log_unknown": "Another owner's box, or a newer log than the trust file: get the box's /trust.json.",
    "attestation_not_certified": "On the box: tillstone attest request; then tillstone owner certify.",
    "attestation_nonce_wrong": "An old answer was shown again, or --nonce is not the one it was asked with.",
    "attestation_door_wrong": "Another box's quote is passed on to you, or the box has a new certificate: ask again.",
    "quote_reset_count": "The TPM was switched on less often than before: another TPM, or its memory was put back.",
    "quote_restart_count": "The TPM resumed less often than before: another TPM, or its memory was put back.",
    "quote_firmware": "The TPM runs firmware that this release was not tried with.",
    "event_log_differs": "The log was changed, or something was measured in this very moment: ask once more.",
    "release_unknown": "Name the manifest of the release that should run there: --release FILE.",
    "release_value_wrong": "Something else was started there than this release, or another firmware started it.",
    "event_unknown": "Something was started there that this release does not know.",
}


def judged(said: Attestation, demand: Demand) -> tuple[Attested | None, Report]:
    """The verdict and its explanation; None where the attestation is not believed."""
    steps = Steps()
    try:
        attested = judge(said, demand, steps)
    except TillstoneError as refusal:
        return None, Report(
            steps=(*_passed(steps), Step(name=steps.now, ok=False, detail=printable(refusal.detail))),
            code=refusal.code,
            hint=_HINTS.get(refusal.code, ""),
            not_reached=STEPS[STEPS.index(steps.now) + 1 :],
        )
    return attested, Report(
        steps=_passed(steps),
        facts=_facts(attested, said),
        sentences=_sentences(attested, said),
        absent=steps.missing,
        verdict="is genuine" if attested.release is not None else "is genuine, without a release to compare with",
    )


def _passed(steps: Steps) -> tuple[Step, ...]:
    return tuple(Step(name=name, ok=True, detail=printable(shown)) for name, shown in steps.passed)


def _facts(attested: Attested, said: Attestation) -> dict[str, object]:
    release = attested.release
    return {
        "origin": attested.origin,
        "image": None if release is None else release.image,
        "root_hash": None if release is None else release.root_hash.hex(),
        "says_version": said.version,
        "attestation_key": attested.key_name,
        "maker": None if attested.statement.maker is None else attested.statement.maker.hex(),
        "reset_count": attested.quote.counts.reset,
        "restart_count": attested.quote.counts.restart,
        "is_clock_safe": attested.quote.is_clock_safe,
        "firmware": f"{attested.quote.firmware:016x}",
        "pcrs": {str(pcr): value.hex() for pcr, value in attested.pcr_values.items()},
    }


def _sentences(attested: Attested, said: Attestation) -> tuple[str, ...]:
    return (_what_runs(attested, said), _which_machine(attested))


def _what_runs(attested: Attested, said: Attestation) -> str:
    release = attested.release
    if release is not None:
        signed = f"root {short(release.root_hash)}, as its owner signed it at {time_text(release.created_ms)}"
        return f"{attested.origin} runs {printable(release.image)} on {printable(release.model)}: {signed}"
    if not any(map(any, attested.pcr_values.values())):
        return f"nothing was measured into the TPM of {attested.origin}: what runs there cannot be proven by it"
    claim = f"{printable(said.version)} {printable(said.image)}".strip()
    return f"{attested.origin} says that it runs {claim}; nothing was compared with it"


def _which_machine(attested: Attested) -> str:
    counts = attested.quote.counts
    maker = "nobody followed it to its maker" if attested.statement.maker is None else "the owner knows its maker"
    power = "" if attested.quote.is_clock_safe else ", and lost power without an orderly end the last time"
    return (
        f"its TPM (firmware {attested.quote.firmware:016x}, {maker}) was switched on {counts.reset} times and resumed"
        f" {counts.restart} times since{power}"
    )

"""What a release is: the image's own manifest, and what a machine of the model showed when it ran that image.

Owns joining the two into a statement. Must never sign a value that no machine and no image gave.

* What the image alone decides its manifest names (PCRs 4 and 11); the other PCRs depend on the firmware, so a reference
  machine is asked: each `--measured` file is the answer of one that ran this very image.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from appliance.evidence.release import ReleaseStatement
from appliance.model.errors import Rejected
from appliance.wire.attestation import Attestation
from drivers.tpm.event_log import EventLog, EventLogRefused, parse_firmware_log, parse_userspace_log
from drivers.tpm.quote_check import QuoteExpectation, QuoteRefused, object_name, verify_quote
from provisioning.attest.check import quoted_nonce
from provisioning.attest.source import read_saved
from provisioning.commands.named_file import read_named

_MANIFEST_BYTES_MAX: Final = 4 << 20
_IMAGE_PCR: Final = 11
_Hash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class _Pcrs(msgspec.Struct, frozen=True, kw_only=True):
    sha256: dict[str, dict[str, _Hash]]


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of `manifest.json`; `pcrs` are by PCR and phase of the start."""

    name: str
    version: str
    profile: str
    root_hash: _Hash
    pcrs: _Pcrs


def add_release(parser: argparse.ArgumentParser) -> None:
    """The arguments beside the manifest."""
    parser.add_argument("--model", required=True, metavar="NAME", help="of the hardware, such as qemu-q35")
    parser.add_argument(
        "--measured", type=Path, metavar="FILE", action="append", required=True,
        help="attestation.json of a machine of that model which ran the image; several times for several firmwares",
    )  # fmt: skip
    parser.add_argument(
        "--events", type=int, metavar="PCR", action="append", default=[],
        help="allow the events measured into this PCR in any order, instead of its value",
    )  # fmt: skip


def release_of(arguments: argparse.Namespace) -> ReleaseStatement:
    """What is to be signed.

    Raises:
        Rejected: `image_manifest_malformed`; `measured_refused`: a reference machine's answer is not whole, or it ran
            another image.
    """
    manifest = _read_manifest(read_named(arguments.manifest, _MANIFEST_BYTES_MAX))
    image = f"{manifest.name} {manifest.version} {manifest.profile}"
    expected = _at_the_end(manifest)
    measured = [read_saved(path) for path in arguments.measured]
    by_events = set(arguments.events)
    firmware: set[int] = set()
    values: dict[int, set[bytes]] = {}
    events: dict[int, set[bytes]] = {}
    for said in measured:
        firmware.add(_firmware(said))
        shown = {each.pcr: each.value for each in said.pcrs}
        if said.image != image or any(shown.get(pcr) != value for pcr, value in expected.items()):
            raise Rejected("measured_refused", f"a reference machine ran {said.image[:100]!r}, not this {image}")
        log = _log(said) if by_events else EventLog(events=())
        for pcr, value in shown.items():
            if pcr in by_events:
                events.setdefault(pcr, set()).update(log.digests(pcr))
            else:
                values.setdefault(pcr, set()).add(value)
    return ReleaseStatement(
        model=arguments.model,
        image=image,
        root_hash=bytes.fromhex(manifest.root_hash),
        values=_sorted(values),
        events=_sorted(events),
        firmware=tuple(sorted(firmware)),
        created_ms=time.time_ns() // 1_000_000,
    )


def _read_manifest(encoded: bytes) -> _Manifest:
    try:
        return msgspec.json.decode(encoded, type=_Manifest)
    except msgspec.MsgspecError as cause:
        raise Rejected("image_manifest_malformed", f"expected an image's manifest.json: {cause}") from cause


def _at_the_end(manifest: _Manifest) -> dict[int, bytes]:
    """By PCR, the value of the last phase: the appliance starts behind it. Phases are words joined by colons."""
    phases = {int(pcr): by_phase for pcr, by_phase in manifest.pcrs.sha256.items() if pcr.isdecimal() and by_phase}
    if _IMAGE_PCR not in phases:
        raise Rejected("image_manifest_malformed", f"expected PCR {_IMAGE_PCR} by phase in the manifest")
    return {pcr: bytes.fromhex(by_phase[max(by_phase, key=len)]) for pcr, by_phase in phases.items()}


def _firmware(said: Attestation) -> int:
    """The TPM's, out of a quote that at least agrees with itself: the signer saw the machine, nobody else judges it."""
    expected = QuoteExpectation(
        ak_name=object_name(said.attestation_key),
        nonce=quoted_nonce(said),
        pcr_values={each.pcr: each.value for each in said.pcrs},
        previous=None,
    )
    try:
        return verify_quote(said.quote, said.signature, said.attestation_key, expected).firmware
    except QuoteRefused as refusal:
        raise Rejected("measured_refused", str(refusal)) from refusal


def _log(said: Attestation) -> EventLog:
    try:
        log = parse_firmware_log(said.event_log or b"")
        return log if said.userspace_log is None else log.then(parse_userspace_log(said.userspace_log))
    except EventLogRefused as refusal:
        raise Rejected("measured_refused", f"a reference machine's log: {refusal}") from refusal


def _sorted(by_pcr: dict[int, set[bytes]]) -> dict[int, tuple[bytes, ...]]:
    return {pcr: tuple(_in_order(digests)) for pcr, digests in sorted(by_pcr.items())}


def _in_order(digests: Iterable[bytes]) -> list[bytes]:
    return sorted(digests)

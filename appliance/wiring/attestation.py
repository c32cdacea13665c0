"""Builds attestation: the TPM's word about the machine, the logs of what was measured, what the box claims to run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

from appliance.api.rate_limit import TokenBucket
from appliance.config.schema import Settings, Tpm
from appliance.device.attest import Attestor, EventLogs, TerminalAttestation
from appliance.identity.authenticate import Authenticate
from appliance.ledger.ledger import Ledger
from appliance.ports.clock import Clock
from appliance.wiring.trust import Trust

_FIRMWARE_LOG: Final = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
_USERSPACE_LOG: Final = Path("/run/log/systemd/tpm2-measure.log")
_OS_RELEASE: Final = Path("/usr/lib/os-release")
_MACHINES_TPM: Final = "device:"
_SOFTWARE_TPM: Final = "the TPM is a program beside the box: no firmware measured anything into it"
_QUOTES_PER_S: Final = 4
_QUOTES_BURST: Final = 32
"""All terminals of a shop at its opening; a TPM on a board takes its time, and requests wait in line for it."""


def make_attestor(
    settings: Settings, trust: Trust, ledger: Ledger, clock: Clock, tls_sha256: Callable[[], bytes]
) -> Attestor:
    """What this box says of itself."""
    tpm = settings.tpm
    return Attestor(
        sealer=trust.sealer,
        key=trust.attestation,
        logs=EventLogs(firmware=None, userspace=None) if tpm is None else event_logs(tpm),
        ledger=ledger,
        clock=clock,
        tls_sha256=tls_sha256,
        version=installed_version("tillstone"),
        image=image_of(_OS_RELEASE.read_text()) if _OS_RELEASE.exists() else "",
    )


def terminal_attestation(attestor: Attestor, authenticate: Authenticate, clock: Clock) -> TerminalAttestation:
    """The verb `attest`."""
    quotes = TokenBucket(per_second=_QUOTES_PER_S, burst=_QUOTES_BURST, clock=clock)
    return TerminalAttestation(attestor=attestor, authenticate=authenticate, pace=quotes.take, clock=clock)


def event_logs(tpm: Tpm) -> EventLogs:
    """The machine's own, which are about no other TPM than the machine's."""
    if tpm.tcti.startswith(_MACHINES_TPM):
        # The unit of an image hands systemd's log over: the file itself is for root alone.
        handed = Path(os.environ.get("CREDENTIALS_DIRECTORY", _USERSPACE_LOG.parent)) / _USERSPACE_LOG.name
        return EventLogs(firmware=_FIRMWARE_LOG, userspace=handed if handed.exists() else _USERSPACE_LOG)
    return EventLogs(firmware=None, userspace=None, absent=_SOFTWARE_TPM)


def image_of(os_release: str) -> str:
    """Name, version and profile of an image of ours, from os-release(5); empty for any other system."""
    facts = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    if facts.get("IMAGE_ID") != "tillstone":
        return ""
    return f"tillstone {facts.get('IMAGE_VERSION', '')} {facts.get('VARIANT_ID', 'release')}"

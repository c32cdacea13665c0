"""A real swtpm for tests: own folder, own sockets, ended by its process object."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from drivers.tpm.bundle import TpmBundle
from provisioning.swtpm import RunningSwtpm, make_swtpm, missing_programs, start_swtpm
from provisioning.tpm import provision_tpm

PIN: Final = b"493-027-aB"
PCRS: Final = (0, 7, 11)


class PluggedTpm:
    """One TPM whose power a test may cut and restore."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: RunningSwtpm = start_swtpm(directory)

    @property
    def tcti(self) -> str:
        return self._running.tcti

    @property
    def pid(self) -> int:
        return self._running.process.pid

    def cut_power(self) -> None:
        self._running.process.kill()
        self._running.process.wait()

    def restore_power(self) -> None:
        self._running = start_swtpm(self._directory)

    def power_cycle(self) -> None:
        self.cut_power()
        self.restore_power()


def require_swtpm() -> None:
    """Skip, naming what is missing."""
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}")


def make_template(directory: Path) -> Path:
    """A freshly made TPM to copy from: making one takes a second, copying none."""
    require_swtpm()
    make_swtpm(directory)
    return directory


@contextmanager
def plugged_tpm(template: Path, directory: Path) -> Iterator[PluggedTpm]:
    """A running copy of the TPM in `template`."""
    shutil.copytree(template, directory, ignore=shutil.ignore_patterns("socket*", "*.log", ".lock"))
    tpm = PluggedTpm(directory)
    try:
        yield tpm
    finally:
        tpm.cut_power()


class ProvisionedTpm:
    """A running TPM with keys, counters and `PIN` sealed by `policy_key`."""

    def __init__(self, plugged: PluggedTpm, policy_key: ec.EllipticCurvePrivateKey) -> None:
        self.plugged = plugged
        self.policy_key = policy_key
        self.bundle: TpmBundle = provision_tpm(plugged.tcti, PIN, policy_key, PCRS)

    @property
    def tcti(self) -> str:
        return self.plugged.tcti

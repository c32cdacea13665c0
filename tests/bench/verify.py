"""Checking a whole log from its bytes, as a stranger does. Owns one walk; memory is measured around it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from appliance.ledger.trust import load_trust
from appliance.ledger.verify import verify_log
from provisioning.sandbox.log_copy import stored_entries
from tests.bench.part import serve_part
from tests.bench.usage import peak_mb


class VerifySpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which log, and whose."""

    data: str
    trust: str


class VerifyResult(msgspec.Struct, frozen=True, kw_only=True):
    """How fast, and in how much memory."""

    size: int
    rate: float
    peak_mb: float


def measure(spec: VerifySpec) -> VerifyResult:
    """Read and verify every entry, bodies included in the hashes but not decoded."""
    owner = load_trust(Path(spec.trust).read_bytes()).owner
    started = time.perf_counter()
    verified = verify_log(stored_entries(Path(spec.data)), owner=owner)
    took = time.perf_counter() - started
    return VerifyResult(size=verified.size, rate=verified.size / took, peak_mb=peak_mb(os.getpid()))


if __name__ == "__main__":
    serve_part(measure, VerifySpec)

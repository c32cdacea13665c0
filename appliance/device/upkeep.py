"""What the box does by itself every few seconds: probe its devices, keep its gauges true, watch the clock."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.payment.operation_records import open_counts
from appliance.ports.clock import Clock
from appliance.runtime.clock import StepDetector
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.till.records import read_owed
from appliance.wire import entries

EVERY_MS: Final = 2_000

Probe = Callable[[], Awaitable[bool]]


class Upkeep:
    """Two services: gauges with probes, and the clock."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        folder: Path,
        probes: Mapping[str, Probe],
        terminal_count: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._folder = folder
        self._probes = probes
        self._terminal_count = terminal_count
        self._was_up: dict[str, bool] = {}

    async def run(self) -> None:
        """Probe each device; a probe is also what lets a device that came back be used again at once."""
        while True:
            for name, probe in self._probes.items():
                is_up = await probe()
                self._metrics.device_up(name, is_up)
                if self._was_up.get(name, True) is not is_up:
                    log = self._log.info if is_up else self._log.warning
                    log("device.came_back" if is_up else "device.lost", device=name)
                self._was_up[name] = is_up
            await self._read_gauges()
            await self._clock.sleep(EVERY_MS)

    async def watch_clock(self) -> None:
        """A step of the wall clock is a fact, not a fault."""
        async for step in StepDetector(clock=self._clock).steps():
            self._metrics.clock_steps.inc()
            self._log.warning("clock.stepped", step_ms=step.step_ms)
            body = cbor.encode(msgspec.to_builtins(entries.ClockStepEntry(step_ms=step.step_ms)))
            draft = Draft(kind=entries.CLOCK_STEP, actor="box", time_ms=self._clock.now_ms(), body=body)
            await self._ledger.append([draft], purpose=Purpose.OUTCOME)

    async def _read_gauges(self) -> None:
        status = os.statvfs(self._folder)
        self._metrics.free_bytes.set(status.f_bavail * status.f_frsize)
        self._metrics.unsigned_entries.set(self._ledger.signing_lag.entries)
        self._metrics.ledger_entries.set(self._ledger.head.size)
        self._metrics.ledger_queue_depth.set(self._ledger.queue_depth)
        for state, count in (await self._ledger.read(open_counts)).items():
            self._metrics.operations_open(state, count)
        self._metrics.vouchers_owed.set(await self._ledger.read(read_owed))
        self._metrics.terminals.set(self._terminal_count())

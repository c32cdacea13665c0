"""Builds the device's own life: its state with the lock, its upkeep, its clock, its epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.api.local.device import DeviceRoutes
from appliance.config.schema import Settings
from appliance.device.admission import BoxAdmission, Quarantine
from appliance.device.boot import renew_epochs
from appliance.device.health import Check, Finding, Level
from appliance.device.life import DeviceLife, Standing
from appliance.device.upkeep import Upkeep
from appliance.ledger.ledger import Ledger
from appliance.model.device_state import DeviceState
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.trust import Trust


class LifeParts:
    """What the box does about itself."""

    def __init__(
        self,
        *,
        settings: Settings,
        trust: Trust,
        ledger: Ledger,
        quarantine: Quarantine,
        parts: Callable[[], Sequence[Check]],
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._settings = settings
        self._trust = trust
        self._ledger = ledger
        self._quarantine = quarantine
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self.life = DeviceLife(
            ledger=ledger,
            quarantine=quarantine,
            parts=parts,
            fault=lambda: hsm_fault(trust),
            told=metrics.device_state,
            clock=clock,
            log=log,
        )

    def begin(
        self, supervisor: Supervisor, *, terminal_count: Callable[[], int], days_closed: Callable[[], int]
    ) -> None:
        """Start the services."""
        upkeep = Upkeep(
            ledger=self._ledger,
            clock=self._clock,
            metrics=self._metrics,
            log=self._log,
            folder=self._settings.storage.path,
            probes={"hsm": self._trust.probe_hsm, "tpm": self._trust.probe_tpm},
            terminal_count=terminal_count,
        )
        supervisor.start("upkeep", upkeep.run, restart=Restart.ON_CRASH)
        supervisor.start("clock", upkeep.watch_clock, restart=Restart.ON_CRASH)
        supervisor.start("device state", self.life.run, restart=Restart.ON_CRASH)
        sealer = self._trust.sealer
        if sealer is not None:
            supervisor.start(
                "epochs",
                lambda: renew_epochs(
                    ledger=self._ledger,
                    sealer=sealer,
                    quarantine=self._quarantine,
                    clock=self._clock,
                    log=self._log,
                    days_closed=days_closed,
                ),
                restart=Restart.ON_CRASH,
            )

    def admission(self) -> BoxAdmission:
        """Whether anything new may begin."""
        limits = self._settings.limits
        return BoxAdmission(
            conditions=self.life.conditions,
            signing_lag=lambda: self._ledger.signing_lag,
            unsigned_age_max_ms=limits.unsigned_age_max_ms,
            unsigned_entries_max=limits.unsigned_entries_max,
        )

    def routes(self) -> DeviceRoutes:
        """For the local door."""
        return DeviceRoutes(self.life)

    def check(self) -> Finding:
        """What health says of the state itself; a lost part or a damaged log has a check of its own."""
        return state_finding(self.life.standing)


def hsm_fault(trust: Trust) -> str | None:
    """Why the token does not come back by itself, if so."""
    state = trust.link.state
    return f"the HSM refused the PIN or a key: {state.reason}" if state.kind == "away" else None


def state_finding(standing: Standing) -> Finding:
    """In plain words."""
    if standing.state is DeviceState.RETIRED:
        sentence, next_step = f"The box is retired: {standing.reason}.", "It never sells again; set up another one."
    elif standing.lock is not None:
        sentence = f"The box is locked: {standing.lock}."
        next_step = "When that is settled: tillstone device unlock --reason TEXT."
    else:
        return Finding(check="state", level=Level.OK, sentence=f"The box is {standing.state}.")
    return Finding(check="state", level=Level.STOPPED, sentence=sentence, next_step=next_step)

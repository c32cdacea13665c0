"""Builds the device's own life: its state with the lock, the case's contact, its upkeep, its time, its epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.adapters.tamper import BoardContact
from appliance.api.local.device import DeviceRoutes
from appliance.config.schema import Settings
from appliance.device import tamper
from appliance.device.admission import BoxAdmission, Quarantine
from appliance.device.boot import begin_epoch, record_boot, renew_epochs
from appliance.device.health import Check, Finding, Level
from appliance.device.life import DeviceLife, Standing
from appliance.device.tamper import TamperWatch
from appliance.device.trusted_time import TrustedTime
from appliance.device.upkeep import Upkeep
from appliance.ledger.ledger import Ledger
from appliance.model.device_state import Cause, DeviceState
from appliance.runtime.clock import FlooredClock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.retiring import Retirement
from appliance.wiring.trust import Trust
from appliance.wiring.updates import UpdateParts


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
        supervisor: Supervisor,
        clock: FlooredClock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._settings = settings
        self._trust = trust
        self._ledger = ledger
        self._quarantine = quarantine
        self._supervisor = supervisor
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._contact: BoardContact | None = None
        self._tamper: TamperWatch | None = None
        if settings.tamper is not None:
            self._contact = BoardContact(settings.tamper.line, debounce_ms=settings.tamper.debounce_ms)
            self._tamper = TamperWatch(contact=self._contact, opened=self._opened, clock=clock, log=log)
        self.life = DeviceLife(
            ledger=ledger,
            quarantine=quarantine,
            parts=parts,
            fault=lambda: hsm_fault(trust),
            told=metrics.device_state,
            require_closed=None if self._tamper is None else self._tamper.require_closed,
            clock=clock,
            log=log,
        )
        sealer = trust.sealer
        self._time = TrustedTime(ledger=ledger, clock=clock, platform=None if sealer is None else sealer.clock, log=log)
        self.updates = UpdateParts(
            settings=settings,
            trust=trust,
            ledger=ledger,
            life=self.life,
            admission=self.admission(),
            clock=clock,
            log=log,
        )
        self._retirement = Retirement(settings=settings, trust=trust, ledger=ledger, life=self.life, log=log)

    async def record_start(self, *, version: str, self_tests: int) -> None:
        """The start becomes a fact, at a time that was judged before."""
        await self._time.begin()
        epoch = 0
        if self._trust.sealer is not None:
            epoch = await begin_epoch(
                ledger=self._ledger,
                sealer=self._trust.sealer,
                quarantine=self._quarantine,
                clock=self._clock,
                log=self._log,
            )
        await record_boot(
            ledger=self._ledger,
            clock=self._clock,
            version=version,
            self_tests=self_tests,
            epoch=epoch,
            post_quantum=self._trust.post_quantum_home,
        )

    async def open(self) -> None:
        """What holds at this start, before any door opens."""
        await self.life.begin()
        if self.life.standing.state is DeviceState.RETIRED:
            # It was cut short right behind its entry.
            self._retirement.begin(self._supervisor, self.life.standing.reason, Cause.RETIRE)
        if self._tamper is not None:
            await self._tamper.look()

    def begin(self, *, terminal_count: Callable[[], int], days_closed: Callable[[], int]) -> None:
        """Start the services."""
        supervisor = self._supervisor
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
        supervisor.start("clock marks", self._time.run, restart=Restart.ON_CRASH)
        supervisor.start("device state", self.life.run, restart=Restart.ON_CRASH)
        if self._tamper is not None:
            supervisor.start("tamper", self._tamper.run, restart=Restart.ON_CRASH)
        self.updates.begin(supervisor)
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

    async def end(self) -> None:
        """Let the contact go."""
        if self._contact is not None:
            await self._contact.close()

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
        return DeviceRoutes(self.life, accept_clock=self._time.accept, updates=self.updates.routes())

    @property
    def checks(self) -> tuple[Check, ...]:
        """What health says of the state, the clock and the case; a lost part or a damaged log has its own check."""
        case = () if self._tamper is None else (self._tamper.check,)
        return (self._check_state, self._time.check, *case, *self.updates.checks)

    def _check_state(self) -> Finding:
        return state_finding(self.life.standing)

    async def _opened(self) -> None:
        """Somebody opened the case: by policy the keys go, and in any case the box locks."""
        if self._settings.tamper is not None and self._settings.tamper.zeroise:
            self._retirement.begin(self._supervisor, tamper.REASON, Cause.TAMPER)
        await self.life.tamper(tamper.REASON)


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

"""Phase two of building the process: the log, the domains on it, the doors; then it runs until it is told to stop."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version as installed_version
from typing import Final

from appliance.api.failures import Failures
from appliance.api.local.door import LocalDoor
from appliance.api.middleware import make_middleware
from appliance.api.pos.door import PosDoor
from appliance.api.pos.events import EventDoor
from appliance.config.schema import Settings
from appliance.device.admission import LogWatermark, Quarantine
from appliance.device.boot import self_test
from appliance.device.harden import harden
from appliance.device.health import Check, Health, examine
from appliance.device.statements import record_statements
from appliance.identity.authenticate import Authenticate
from appliance.identity.pairing import Pairing
from appliance.identity.refusals import Refusals
from appliance.identity.terminals import Terminals
from appliance.ledger.archive import Archive
from appliance.ledger.ledger import Ledger
from appliance.model.device_state import Act
from appliance.model.ids import ProviderName
from appliance.payment.operate import Operations
from appliance.payment.repeats import is_used
from appliance.payment.vault.safe import Safe
from appliance.runtime.clock import FlooredClock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.stages import Stages
from appliance.runtime.supervise import Restart, Supervisor, Tier, supervised
from appliance.runtime.tracing import Tracer
from appliance.runtime.watchdog import ServiceManager, Watchdog
from appliance.wiring.attestation import terminal_attestation
from appliance.wiring.cards import CardParts, resolver_checks
from appliance.wiring.checks import checks, device_checks
from appliance.wiring.door_tls import DoorTls, tls_context
from appliance.wiring.doors import Doors, announce, tell_doors
from appliance.wiring.escrow import escrow_routes, make_escrow
from appliance.wiring.followers import Outside, open_outside
from appliance.wiring.hooks import hooks_of
from appliance.wiring.life import LifeParts
from appliance.wiring.offline import OfflineParts
from appliance.wiring.opening import Opened, open_ledger, open_providers, pin_pad_parts
from appliance.wiring.payments import make_batch, make_operations, make_resolver, payment_pipeline, shop_rules
from appliance.wiring.public import PublicParts
from appliance.wiring.retiring import refuse_retired
from appliance.wiring.screening import ScreeningParts
from appliance.wiring.till import TillParts
from appliance.wiring.trust import Trust, open_trust
from appliance.wiring.vault import VaultParts, make_safe

VERSION: Final = installed_version("tillstone")


async def run_box(settings: Settings, *, log: Log, clock: FlooredClock, tracer: Tracer) -> None:
    """Recover, open the doors, sell until SIGTERM or SIGINT.

    Raises:
        Corrupt: a self-test, a key or the log is not what it must be; nothing is sold.
        Unavailable: a device is away; the service manager starts us again.
        ExceptionGroup: an essential part failed while running; the next start recovers.
    """
    for refused in harden():
        log.warning("hardening.refused", measure=refused)
    self_tests = self_test(log)
    await refuse_retired(settings, clock, log)
    tls_context(settings)  # a door that cannot be opened as required stops the start before anything is recorded
    async with AsyncExitStack() as stack:
        trust = await stack.enter_async_context(open_trust(settings, clock))
        ledger = await open_ledger(settings, trust, clock)
        stack.push_async_callback(ledger.close)
        archive = await Archive.open(settings.storage.path, lambda: ledger.tail)
        stack.push_async_callback(archive.close)
        opened = await open_providers(settings, ledger, clock)
        for each in opened.values():
            stack.push_async_callback(each.provider.close)
        outside = await stack.enter_async_context(open_outside(settings))
        safe = make_safe(settings, trust)
        stack.push_async_callback(safe.close)
        async with supervised(log=log, clock=clock) as supervisor:
            supervisor.stop_on_signals()
            supervisor.start("head signing", ledger.sign_heads)
            supervisor.start("commit watch", ledger.watch)
            box = Box(
                settings=settings,
                trust=trust,
                ledger=ledger,
                archive=archive,
                outside=outside,
                safe=safe,
                opened=opened,
                supervisor=supervisor,
                log=log,
                clock=clock,
                tracer=tracer,
            )
            await box.begin(self_tests)
            await box.open_doors()
            await supervisor.stopped()
            await box.end()


class Box:
    """All parts of a running box."""

    def __init__(
        self,
        *,
        settings: Settings,
        trust: Trust,
        ledger: Ledger,
        archive: Archive,
        outside: Outside,
        safe: Safe,
        opened: Mapping[ProviderName, Opened],
        supervisor: Supervisor,
        log: Log,
        clock: FlooredClock,
        tracer: Tracer,
    ) -> None:
        self._settings = settings
        self._trust = trust
        self._ledger = ledger
        self._opened = opened
        self._supervisor = supervisor
        self._log = log
        self._clock = clock
        self._metrics = Metrics()
        self._manager = ServiceManager(os.environ)
        self._quarantine = Quarantine()
        self._stages = Stages(tracer=tracer, metrics=self._metrics)
        self._terminals = Terminals(ledger=ledger, clock=clock)
        self._refusals = Refusals(ledger=ledger, clock=clock)
        self._audience = trust.statement.origin
        self._cards = CardParts(settings=settings, clock=clock, log=log)
        self._hooks = hooks_of(settings, clock=clock, log=log, metrics=self._metrics)
        self._pads = pin_pad_parts(settings, opened, clock=clock, metrics=self._metrics)
        self._vault = VaultParts(settings=settings, safe=safe, ledger=ledger, clock=clock, log=log)
        self._operations = self._make_operations(self._audience)
        self._resolver = make_resolver(settings, ledger, self._operations, clock, log)
        self._authenticate = Authenticate(
            terminals=self._terminals,
            watermark=LogWatermark(ledger=ledger, quarantine=self._quarantine),
            clock=clock,
            audience=self._audience,
            clock_skew_max_ms=settings.limits.clock_skew_max_ms,
            is_used=partial(is_used, ledger),
        )
        self._own = self._make_own()
        self._tls = DoorTls(settings=settings, trust=trust, clock=clock, log=log)
        self._admission = self._own.admission()
        self._screen = ScreeningParts(settings=settings, ledger=ledger, clock=clock, metrics=self._metrics, log=log)
        self._offline = self._make_offline()
        self._till = self._make_till(outside)
        self._public = PublicParts(
            settings=settings,
            trust=trust,
            ledger=ledger,
            archive=archive,
            outside=outside,
            clock=clock,
            metrics=self._metrics,
            log=log,
            quarantine=self._quarantine.set,
            on_erased=self._vault.vault.sweep,
            tls_sha256=lambda: self._tls.sha256,
        )
        self._checks = self._make_checks()

    async def begin(self, self_tests: int) -> None:
        """The start becomes a fact, and the services behind the doors run."""
        await self._own.record_start(version=VERSION, self_tests=self_tests)
        await record_statements(ledger=self._ledger, said=self._trust.said, clock=self._clock)
        await self._own.open()
        await self._tls.begin(self._supervisor)
        await self._terminals.load()
        await self._screen.begin()
        await self._till.begin(self._supervisor)
        self._vault.begin(self._supervisor)
        self._start_services()
        self._cards.begin(self._supervisor)
        await self._public.begin(self._supervisor)

    async def end(self) -> None:
        """An orderly stop, while the services still run."""
        self._operations.stop_waiting()
        await self._public.end()
        await self._own.end()

    def _start_services(self) -> None:
        self._own.begin(
            terminal_count=lambda: len(self._terminals.all), days_closed=lambda: self._till.days.closed_count
        )
        self._supervisor.start("refusals", self._refusals.run, restart=Restart.ON_CRASH)
        watchdog = Watchdog(manager=self._manager, clock=self._clock, metrics=self._metrics, log=self._log)
        self._supervisor.start("watchdog", watchdog.run)
        self._supervisor.start("resolver", self._resolver.run, restart=Restart.ON_CRASH)
        self._offline.begin(self._supervisor)
        self._pads.begin(self._supervisor)
        for hooks in self._hooks:
            hooks.listen(self._supervisor, self._operations, self._resolver, self._ledger, self._audience)

    async def open_doors(self) -> None:
        """Listen, tell where, say READY."""
        settings = self._settings
        trust_text = settings.storage.trust_path.read_text()
        failures = Failures(clock=self._clock, log=self._log, metrics=self._metrics, on_corrupt=self._quarantine.set)
        middleware = make_middleware(failures=failures, metrics=self._metrics)
        pairing = Pairing(
            terminals=self._terminals,
            authenticate=self._authenticate,
            clock=self._clock,
            audience=self._audience,
            currency=settings.shop.currency,
            trust=trust_text,
            authority=lambda: self._tls.authority,
            certificate_sha256=lambda: self._tls.sha256,
            admit=partial(self._own.life.require, Act.PAIR),
        )
        doors = Doors(failures=failures, clock=self._clock, log=self._log, metrics=self._metrics)
        pos = await doors.open_tcp(
            "pos",
            self._pos_door(pairing).application(middleware),
            host=settings.pos.host,
            port=settings.pos.port,
            tls=self._tls.context,
        )
        public = await doors.open_tcp(
            "public",
            self._public.door(trust=trust_text, metrics=self._metrics, health=self.health).application(middleware),
            host=settings.public.host,
            port=settings.public.port,
        )
        local_door = LocalDoor(
            pairing=pairing,
            terminals=self._terminals,
            ledger=self._ledger,
            health=self.health,
            pos_url=lambda: f"https://{settings.pos.host}:{pos.port}",
            about={"shop": settings.shop.name, "origin": self._audience, "version": VERSION},
            public=self._public.local_routes(),
            days=self._till.routes(),
            screening=self._screen.routes(),
            vault=self._vault.routes(),
            escrow=escrow_routes(settings, self._ledger, self._make_operations, self._clock),
            device=self._own.routes(),
        )
        local = await doors.open_local(local_door.application(middleware), settings.storage.path)
        opened = {"pos": pos, "public": public, "local": local}
        for hooks in self._hooks:
            opened |= await hooks.open_door(doors, middleware)
        for name, door in opened.items():
            self._supervisor.start(f"{name} door", door.run, tier=Tier.DOOR)
        tell_doors(settings.storage.path, {name: door.port for name, door in opened.items()})
        if settings.pos.is_announced:
            await announce(settings, self._audience, pos.port, self._supervisor, self._log)
        await self._own.updates.settle()
        self._manager.ready()
        self._log.info("box.ready", pos=pos.port, public=public.port, entries=self._ledger.head.size)

    def health(self) -> Health:
        """All findings of this moment."""
        return examine(self._checks, self._own.life.standing.state)

    def _make_checks(self) -> Sequence[Check]:
        return checks(
            trust=self._trust,
            ledger=self._ledger,
            quarantine=self._quarantine,
            folder=self._settings.storage.path,
            room_bytes_min=self._settings.storage.room_bytes_min,
            is_test_token="softhsm" in str(self._settings.hsm.module_path).lower(),
            followers=self._findings(),
        )

    def _parts(self) -> Sequence[Check]:
        """Devices without which the box sells, degraded."""
        return (*device_checks(self._trust, self._ledger), *self._pads.checks, *self._public.device_checks)

    def _findings(self) -> tuple[Check, ...]:
        """What health says beside the log, the token and the disk."""
        providers = (*self._cards.checks, *self._pads.checks, *resolver_checks(self._resolver), self._offline.check)
        hooks = (hooks.check for hooks in self._hooks)
        rest = (self._screen.check, self._vault.check, *self._public.checks)
        return (*self._own.checks, *providers, *hooks, *self._till.checks, *rest)

    def _make_own(self) -> LifeParts:
        return LifeParts(
            settings=self._settings,
            trust=self._trust,
            ledger=self._ledger,
            quarantine=self._quarantine,
            parts=self._parts,
            supervisor=self._supervisor,
            clock=self._clock,
            metrics=self._metrics,
            log=self._log,
        )

    def _make_operations(self, log_origin: str) -> Operations:
        return make_operations(
            settings=self._settings,
            opened=self._opened,
            cards=self._cards,
            supervisor=self._supervisor,
            ledger=self._ledger,
            clock=self._clock,
            log=self._log,
            stages=self._stages,
            log_origin=log_origin,
            vault=self._vault.vault,
        )

    def _make_offline(self) -> OfflineParts:
        return OfflineParts(
            settings=self._settings,
            ledger=self._ledger,
            operations=self._operations,
            clock=self._clock,
            log=self._log,
            metrics=self._metrics,
            quarantine=lambda: self._quarantine.reason,
            screener=self._screen.screener,
        )

    def _make_till(self, outside: Outside) -> TillParts:
        return TillParts(
            settings=self._settings,
            authenticate=self._authenticate,
            admission=self._admission,
            quarantine=self._quarantine,
            ledger=self._ledger,
            store=outside.store,
            log_origin=self._audience,
            clock=self._clock,
            attested=lambda day: self._public.attestor.entry_of_day(day),
            metrics=self._metrics,
            log=self._log,
        )

    def _pos_door(self, pairing: Pairing) -> PosDoor:
        return PosDoor(
            pipeline=payment_pipeline(
                authenticate=self._authenticate,
                rules=shop_rules(self._settings),
                admission=self._admission,
                operations=self._operations,
                screener=self._screen.screener,
                ledger=self._ledger,
                clock=self._clock,
                stages=self._stages,
            ),
            batch=make_batch(
                self._settings, self._authenticate, self._admission, self._screen.screener, self._ledger, self._clock
            ),
            drawers=self._till.drawers,
            vouchers=self._till.vouchers,
            tokens=self._vault.tokens(self._authenticate, self._admission),
            escrow=make_escrow(self._settings, self._authenticate, self._ledger, self._operations, self._clock),
            attestation=terminal_attestation(self._public.attestor, self._authenticate, self._clock),
            reports=self._till.reports,
            pairing=pairing,
            authenticate=self._authenticate,
            events=EventDoor(
                ledger=self._ledger,
                authenticate=self._authenticate,
                terminals=self._terminals,
                metrics=self._metrics,
                shown=self._operations.shown,
            ),
            refusals=self._refusals,
            clock=self._clock,
            audience=self._audience,
            currency=self._settings.shop.currency,
            shop=self._settings.shop.name,
            version=VERSION,
        )

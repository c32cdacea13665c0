"""Builds reconciliation: each provider's statement, the daily look at it, its figures, and what health says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from appliance.adapters.paypal_statement import PayPalStatement
from appliance.adapters.stripe_statement import StripeStatement
from appliance.anchor.follower import Follower, Progress, Schedule, Standing
from appliance.anchor.store import EvidenceStore
from appliance.api.local.reconcile import ReconcileRoutes
from appliance.config.schema import Settings
from appliance.device.admission import Quarantine
from appliance.device.health import Check, Finding, Level
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import ProviderName
from appliance.model.limits import MINUTE_MS
from appliance.model.operation import FIRST_PROVIDER
from appliance.model.reconciling import BreakType, FeeRule
from appliance.model.shop_day import ShopCalendar
from appliance.payment.reconcile import Reconciliation
from appliance.ports.clock import Clock
from appliance.ports.statement import Statement
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.followers import finding_of
from appliance.wiring.opening import PAYPAL, paypal_settings, stripe_settings

NAME: Final = "reconcile"
EVERY_MS: Final = 10 * MINUTE_MS
"""How often it is asked whether a day is due."""
LOOK_MS_MAX: Final = 10 * MINUTE_MS
"""What one provider may take: one that hangs does not keep the box from the others' money."""


class ReconcileParts:
    """Nothing at all where no provider with a statement is set up."""

    def __init__(
        self,
        *,
        settings: Settings,
        ledger: Ledger,
        store: EvidenceStore,
        log_origin: str,
        quarantine: Quarantine,
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._log_origin = log_origin
        self._quarantine = quarantine
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._openers = _openers(settings, clock)
        self._working: dict[ProviderName, Reconciliation] = {}
        self._open: dict[str, dict[str, int]] = {name: {} for name in self._openers}
        self._until: dict[str, str | None] = dict.fromkeys(self._openers)
        self._follower = Follower(
            name=NAME,
            step=self._step,
            schedule=Schedule(every_ms=EVERY_MS, step_ms_max=(len(self._openers) + 1) * LOOK_MS_MAX),
            store=store,
            newest=lambda: ledger.head.size,
            clock=clock,
            metrics=metrics,
            log=log,
            jitter=random.SystemRandom(),
        )

    def begin(self, supervisor: Supervisor) -> None:
        """Start the daily look; nothing waits for it."""
        if self._openers:
            supervisor.start("reconcile follower", self._run, restart=Restart.ON_CRASH)

    def routes(self) -> ReconcileRoutes:
        """For the local door."""
        return ReconcileRoutes(self._looking, compared=tuple(self._openers), not_compared=self._not_compared)

    @property
    def checks(self) -> Sequence[Check]:
        """How the look is, and what it found."""
        if not self._openers:
            return ()
        return (lambda: reconcile_finding(self._follower.standing, self._open, self._until, self._not_compared),)

    @property
    def _not_compared(self) -> tuple[str, ...]:
        sections = msgspec.structs.asdict(self._settings.provider)
        return tuple(name for name, section in sections.items() if section is not None and name not in self._openers)

    def _looking(self) -> Mapping[ProviderName, Reconciliation]:
        """Who compares, by provider."""
        reason = self._quarantine.reason
        if reason is not None:
            raise Unavailable("quarantined", reason)
        if not self._working:
            raise Unavailable("statement_missing", "no provider with a statement is set up, or it is being opened")
        return self._working

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            stack.callback(self._working.clear)
            for name, opens in self._openers.items():
                statement = await opens()
                stack.push_async_callback(statement.close)
                self._working[name] = self._make(name, statement)
            await self._follower.run()

    def _make(self, provider: ProviderName, statement: Statement) -> Reconciliation:
        shop, rule = self._settings.shop, self._settings.reconciliation
        return Reconciliation(
            ledger=self._ledger,
            statement=statement,
            clock=self._clock,
            log=self._log,
            calendar=ShopCalendar(zone=ZoneInfo(shop.timezone), cut_off=shop.day_cutoff),
            provider=provider,
            log_origin=self._log_origin,
            currency=shop.currency,
            fee=FeeRule(
                basis_points_max=rule.fee_basis_points_max,
                fixed_minor_max=rule.fee_fixed_minor_max,
            ),
        )

    async def _step(self) -> Progress:
        failures: list[Unavailable | Rejected] = []
        for provider, each in self._looking().items():
            try:
                async with asyncio.timeout(LOOK_MS_MAX / 1_000):
                    await each.run_due()
            except (Unavailable, Rejected) as failure:
                failures.append(failure)
            except TimeoutError:
                failures.append(Unavailable("statement_unread", f"{provider}'s statement took too long to read"))
            await self._tell(provider, each)
        if failures:
            raise failures[0]
        return Progress(size=self._ledger.head.size)

    async def _tell(self, provider: ProviderName, looking: Reconciliation) -> None:
        self._open[provider] = await looking.open_by_type()
        self._until[provider] = await looking.compared_until()
        for kind in BreakType:
            self._metrics.breaks_open(provider, kind, self._open[provider].get(kind, 0))


def _openers(settings: Settings, clock: Clock) -> dict[ProviderName, Callable[[], Awaitable[Statement]]]:
    """How each provider's statement is opened; nothing is asked by it."""
    openers: dict[ProviderName, Callable[[], Awaitable[Statement]]] = {}
    stripe, paypal = settings.provider.stripe, settings.provider.paypal
    if stripe is not None:
        openers[FIRST_PROVIDER] = partial(
            StripeStatement.open, settings=stripe_settings(stripe, settings.outbound), clock=clock
        )
    if paypal is not None:
        openers[PAYPAL] = partial(
            PayPalStatement.open, settings=paypal_settings(paypal, settings.outbound), clock=clock
        )
    return openers


def reconcile_finding(
    standing: Standing,
    open_by_provider: Mapping[str, Mapping[str, int]],
    until: Mapping[str, str | None],
    not_compared: tuple[str, ...] = (),
) -> Finding:
    """In plain words; no break stops a sale.

    Args:
        until: the newest day that was compared, by provider: nothing is known of what came after it.
    """
    but = f" Not compared: {', '.join(not_compared)}." if not_compared else ""
    if standing.failures:
        return finding_of(standing)
    told = [f"{provider}: {_counts(kinds)}" for provider, kinds in open_by_provider.items() if kinds]
    if not told:
        days = "; ".join(f"{name}: {_until_words(until.get(name))}" for name in open_by_provider)
        return Finding(check=NAME, level=Level.OK, sentence=f"Money beside its provider's list, {days}.{but}")
    return Finding(
        check=NAME,
        level=Level.COPING,
        sentence=f"Money differs from what its provider lists, {'; '.join(told)}; we sell on.{but}",
        next_step="tillstone reconcile says what to do about each.",
    )


def _until_words(day: str | None) -> str:
    return "no day was compared yet" if day is None else f"nothing is open up to day {day}"


def _counts(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{kind.replace('_', ' ')} {number}" for kind, number in sorted(kinds.items()))

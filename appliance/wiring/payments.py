"""Builds the pipeline of payments from its parts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial

from appliance.config.schema import Settings
from appliance.identity.authenticate import Authenticate
from appliance.ledger.ledger import Ledger
from appliance.model.ids import ProviderName
from appliance.model.offline import OfflineLimits
from appliance.model.sale import TenderKind
from appliance.payment.batch import Batch
from appliance.payment.capture import Capture
from appliance.payment.follow_up import FollowUp
from appliance.payment.give_back import GiveBack
from appliance.payment.operate import Operations
from appliance.payment.pipeline import PaymentPipeline
from appliance.payment.providers import Providers, SetUp
from appliance.payment.refund import Refund
from appliance.payment.resolve import Resolver
from appliance.payment.respond import Respond
from appliance.payment.screening.judge import Screener
from appliance.payment.shown import Shown
from appliance.payment.undo import Undo
from appliance.payment.validate import ShopRules
from appliance.payment.vault.vault import Vault
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.stages import Stages
from appliance.runtime.supervise import Supervisor
from appliance.wiring.cards import CardParts
from appliance.wiring.opening import Opened, readers_of


def make_operations(
    *,
    settings: Settings,
    opened: Mapping[ProviderName, Opened],
    cards: CardParts,
    supervisor: Supervisor,
    ledger: Ledger,
    clock: Clock,
    log: Log,
    stages: Stages,
    log_origin: str,
    vault: Vault,
) -> Operations:
    """Everything that is asked of a provider, of whichever."""
    stripe = settings.provider.stripe
    return Operations(
        ledger=ledger,
        providers=Providers(
            {
                name: SetUp(
                    tender=each.tender,
                    provider=each.provider,
                    offers=each.offers,
                    holds=each.holds,
                    forwards=each.forwards,
                    is_paid_by_customer=each.is_paid_by_customer,
                    admit=cards.admit if each.tender is TenderKind.CARD else _admit_always,
                    account=cards.account if each.tender is TenderKind.CARD else partial(_named, each.account),
                )
                for name, each in opened.items()
            }
        ),
        supervisor=supervisor,
        clock=clock,
        log=log,
        stages=stages,
        log_origin=log_origin,
        source_default="" if stripe is None else stripe.payment_source_default,
        capture_window_ms=settings.limits.capture_window_ms,
        readers=readers_of(settings),
        offline_limits=offline_limits(settings),
        vault=vault,
    )


def offline_limits(settings: Settings) -> OfflineLimits:
    """How much money may hang on banks that were not asked."""
    offline = settings.offline
    return OfflineLimits(
        sale_minor_max=offline.sale_minor_max,
        terminal_minor_max=offline.terminal_minor_max,
        box_minor_max=offline.box_minor_max,
        age_hours_max=offline.age_hours_max,
    )


def _named(account: str | None) -> str | None:
    """What the settings say."""
    return account


def _admit_always() -> None:
    """Nobody asks this provider whose account it is."""


def shop_rules(settings: Settings) -> ShopRules:
    """What this shop sells in."""
    return ShopRules(
        currency=settings.shop.currency,
        cash_rounding_minor=settings.shop.cash_rounding_minor,
        amount_minor_max=settings.limits.amount_minor_max,
    )


def make_batch(
    settings: Settings,
    authenticate: Authenticate,
    admission: Admission,
    screener: Screener,
    ledger: Ledger,
    clock: Clock,
) -> Batch:
    """Sales that were stored at a till."""
    return Batch(
        authenticate=authenticate,
        rules=shop_rules(settings),
        admission=admission,
        ledger=ledger,
        clock=clock,
        screener=screener,
        sales_max=settings.limits.batch_sales_max,
    )


def make_give_back(ledger: Ledger, operations: Operations | None, clock: Clock) -> GiveBack:
    """For whoever takes payments back without a request: the resolver."""
    follow_up = FollowUp(ledger=ledger, operations=operations, clock=clock)
    return GiveBack(ledger=ledger, follow_up=follow_up, clock=clock)


def make_resolver(settings: Settings, ledger: Ledger, operations: Operations, clock: Clock, log: Log) -> Resolver:
    """Who finds out what became of lost answers."""
    return Resolver(
        ledger=ledger,
        operations=operations,
        give_back=make_give_back(ledger, operations, clock),
        clock=clock,
        log=log,
        settle_ms=settings.limits.settle_ms,
        jitter=random.SystemRandom(),
    )


def payment_pipeline(
    *,
    authenticate: Authenticate,
    rules: ShopRules,
    admission: Admission,
    operations: Operations | None,
    screener: Screener,
    ledger: Ledger,
    clock: Clock,
    stages: Stages,
) -> PaymentPipeline:
    """Every verb of the terminals' door; `operations` is None on a box without a card provider."""
    follow_up = FollowUp(ledger=ledger, operations=operations, clock=clock)
    give_back = GiveBack(ledger=ledger, follow_up=follow_up, clock=clock)
    return PaymentPipeline(
        authenticate=authenticate,
        rules=rules,
        admission=admission,
        operations=operations,
        undo=Undo(ledger=ledger, operations=operations, give_back=give_back, clock=clock),
        capture=Capture(ledger=ledger, follow_up=follow_up, clock=clock),
        refund=Refund(ledger=ledger, give_back=give_back, screener=screener, cash_step_minor=rules.cash_rounding_minor),
        screener=screener,
        respond=Respond(ledger=ledger, clock=clock, shown=Shown() if operations is None else operations.shown),
        ledger=ledger,
        clock=clock,
        stages=stages,
    )

"""Webhooks of every provider that sends them: who reads them, the relay's door, and what they mean for health."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from aiohttp.typedefs import Middleware
from cryptography import x509

from appliance.adapters.coinbase_webhook import CoinbaseWebhooks
from appliance.adapters.paypal_webhook import PayPalCertificates, PayPalWebhooks
from appliance.adapters.stripe_session import is_live_key
from appliance.adapters.stripe_webhook import StripeWebhooks
from appliance.api.open_door import OpenDoor
from appliance.api.webhook_door import WebhookDoor
from appliance.config.load import read_secret
from appliance.config.outbound import Outbound
from appliance.config.paypal import PayPalDelivery
from appliance.config.schema import Settings
from appliance.device.health import Check, Finding, Level
from appliance.ledger.ledger import Ledger
from appliance.model.ids import ProviderName
from appliance.model.operation import FIRST_PROVIDER
from appliance.payment.operate import Operations
from appliance.payment.resolve import Resolver
from appliance.payment.webhooks import Webhooks
from appliance.ports.clock import Clock
from appliance.ports.hint import HintReader
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.doors import Doors
from appliance.wiring.opening import COINBASE, PAYPAL


class Relay(Protocol):
    """The settings of a relay's door."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class Hooks:
    """One provider's webhooks.

    Args:
        title: the provider's name for people.
        name: of the door and the check.
        relay: where a relay brings them.
        make_reader: tells its webhooks from others, and starts what it needs for that.
    """

    def __init__(
        self,
        provider: ProviderName,
        *,
        title: str,
        name: str,
        relay: Relay,
        make_reader: Callable[[Supervisor], HintReader],
        clock: Clock,
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._provider = provider
        self._title = title
        self._name = name
        self._relay = relay
        self._make_reader = make_reader
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._webhooks: Webhooks | None = None

    def listen(
        self, supervisor: Supervisor, operations: Operations, resolver: Resolver, ledger: Ledger, log_origin: str
    ) -> None:
        """Look into what comes."""
        self._webhooks = Webhooks(
            reader=self._make_reader(supervisor),
            log_origin=log_origin,
            provider=self._provider,
            hurry=lambda reference: operations.providers.hurry(self._provider, reference),
            find=lambda operation, known: operations.find(operation, since_ms=operation.prepared_ms, known=known),
            resolver=resolver,
            ledger=ledger,
            clock=self._clock,
            log=self._log,
            count=lambda outcome: self._metrics.webhook(self._provider, outcome),
        )
        supervisor.start(f"{self._provider} webhooks", self._webhooks.run, restart=Restart.ON_CRASH)

    async def open_door(self, doors: Doors, middleware: Middleware) -> dict[str, OpenDoor]:
        """The relay's door by its name."""
        if self._webhooks is None:
            return {}
        door = WebhookDoor(provider=self._provider, webhooks=self._webhooks, clock=self._clock)
        opened = await doors.open_tcp(
            "webhook", door.application(middleware), host=self._relay.host, port=self._relay.port
        )
        return {self._name: opened}

    @property
    def check(self) -> Check:
        """What health says of them."""
        return self._finding

    def _finding(self) -> Finding:
        alarms = {} if self._webhooks is None else self._webhooks.alarms()
        return webhook_finding(alarms, check=f"{self._name}s", provider=self._title)


def hooks_of(settings: Settings, *, clock: Clock, log: Log, metrics: Metrics) -> Sequence[Hooks]:
    """Of each provider whose settings have a door for them."""

    make = partial(Hooks, clock=clock, log=log, metrics=metrics)
    found: list[Hooks] = []
    stripe, paypal, coinbase = settings.provider.stripe, settings.provider.paypal, settings.provider.coinbase
    if stripe is not None and stripe.webhooks is not None:
        is_live, secret = is_live_key(read_secret(stripe.api_key_path)), read_secret(stripe.webhooks.secret_path)
        cards = StripeWebhooks(secret=secret, is_live=is_live, clock=clock)
        found.append(
            make(FIRST_PROVIDER, title="Stripe", name="webhook", relay=stripe.webhooks, make_reader=lambda _: cards)
        )
    if paypal is not None and paypal.webhooks is not None:
        read = partial(_paypal_reader, paypal.webhooks, outbound=settings.outbound, clock=clock, log=log)
        found.append(make(PAYPAL, title="PayPal", name="paypal-webhook", relay=paypal.webhooks, make_reader=read))
    if coinbase is not None and coinbase.webhooks is not None:
        usdc = CoinbaseWebhooks(secret=read_secret(coinbase.webhooks.secret_path), clock=clock)
        relay = coinbase.webhooks
        found.append(make(COINBASE, title="Coinbase", name="coinbase-webhook", relay=relay, make_reader=lambda _: usdc))
    return found


def _paypal_reader(
    delivery: PayPalDelivery, supervisor: Supervisor, *, outbound: Outbound, clock: Clock, log: Log
) -> HintReader:
    """It fetches the certificates that webhooks name."""
    certificates = PayPalCertificates(
        base=delivery.certificate_base,
        name=delivery.certificate_name,
        roots=x509.load_pem_x509_certificates(delivery.roots_path.read_bytes()),
        proxy=outbound.proxy_for(delivery.certificate_base),
        clock=clock,
        log=log,
    )
    supervisor.start("paypal certificates", certificates.run, restart=Restart.ON_CRASH)
    return PayPalWebhooks(webhook_id=delivery.webhook_id, certificates=certificates, clock=clock)


def webhook_finding(alarms: Mapping[str, int], *, check: str = "webhooks", provider: str = "Stripe") -> Finding:
    """What came to the relay's door within an hour and was not an ordinary hint; none of it changed anything."""
    if not alarms:
        return Finding(check=check, level=Level.OK, sentence="Webhooks are as they should be.")
    told = ", ".join(f"{outcome.replace('_', ' ')} {times}" for outcome, times in alarms.items())
    step = "Look at the relay: who sends them?"
    if "contradicts" in alarms:
        step = f"Reconcile with {provider}'s list of payments."
    return Finding(check=check, level=Level.COPING, sentence=f"Webhooks that changed nothing: {told}.", next_step=step)

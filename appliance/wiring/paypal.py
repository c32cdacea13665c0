"""What stands beside PayPal: its webhooks, and what they mean for health."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp.typedefs import Middleware
from cryptography import x509

from appliance.adapters.paypal_webhook import PayPalCertificates, PayPalWebhooks
from appliance.api.open_door import OpenDoor
from appliance.api.webhook_door import WebhookDoor
from appliance.config.schema import Settings
from appliance.device.health import Check, Finding
from appliance.ledger.ledger import Ledger
from appliance.model.ids import ProviderName
from appliance.payment.operate import Operations
from appliance.payment.resolve import Resolver
from appliance.payment.webhooks import Webhooks
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.cards import webhook_finding
from appliance.wiring.doors import Doors

PAYPAL: Final = ProviderName("paypal")


class PayPalParts:
    """Nothing at all where PayPal has no webhooks."""

    def __init__(self, *, settings: Settings, clock: Clock, log: Log, metrics: Metrics) -> None:
        paypal = settings.provider.paypal
        self._delivery = None if paypal is None else paypal.webhooks
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._webhooks: Webhooks | None = None

    def listen(
        self, supervisor: Supervisor, operations: Operations, resolver: Resolver, ledger: Ledger, log_origin: str
    ) -> None:
        """Look into webhooks, and fetch the certificates that they name."""
        delivery = self._delivery
        if delivery is None:
            return
        certificates = PayPalCertificates(
            base=delivery.certificate_base,
            name=delivery.certificate_name,
            roots=x509.load_pem_x509_certificates(delivery.roots_path.read_bytes()),
            clock=self._clock,
            log=self._log,
        )
        self._webhooks = Webhooks(
            reader=PayPalWebhooks(webhook_id=delivery.webhook_id, certificates=certificates, clock=self._clock),
            log_origin=log_origin,
            provider=PAYPAL,
            hurry=lambda reference: operations.providers.hurry(PAYPAL, reference),
            find=lambda operation, known: operations.find(operation, since_ms=operation.prepared_ms, known=known),
            resolver=resolver,
            ledger=ledger,
            clock=self._clock,
            log=self._log,
            count=lambda outcome: self._metrics.webhook(PAYPAL, outcome),
        )
        supervisor.start("paypal webhooks", self._webhooks.run, restart=Restart.ON_CRASH)
        supervisor.start("paypal certificates", certificates.run, restart=Restart.ON_CRASH)

    async def open_door(self, doors: Doors, middleware: Middleware) -> dict[str, OpenDoor]:
        """The relay's door by its name, where there are webhooks."""
        if self._delivery is None or self._webhooks is None:
            return {}
        door = WebhookDoor(provider=PAYPAL, webhooks=self._webhooks, clock=self._clock)
        host, port = self._delivery.host, self._delivery.port
        return {"paypal-webhook": await doors.open_tcp("webhook", door.application(middleware), host=host, port=port)}

    @property
    def checks(self) -> Sequence[Check]:
        """What health says of PayPal's webhooks."""
        return () if self._delivery is None else (self._finding,)

    def _finding(self) -> Finding:
        alarms = {} if self._webhooks is None else self._webhooks.alarms()
        return webhook_finding(alarms, check="paypal-webhooks", provider="PayPal")

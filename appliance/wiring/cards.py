"""What stands beside the card provider: whose key it is, its webhooks, and what both mean for cards and for health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp.typedefs import Middleware

from appliance.adapters.stripe_account import AccountState, AccountWatch
from appliance.adapters.stripe_session import StripeSession, is_live_key
from appliance.adapters.stripe_webhook import StripeWebhooks
from appliance.api.open_door import OpenDoor
from appliance.api.webhook_door import WebhookDoor
from appliance.config.card_provider import Stripe
from appliance.config.load import read_secret
from appliance.config.schema import Settings
from appliance.device.health import Check, Finding, Level
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Unavailable
from appliance.model.ids import ProviderName
from appliance.model.operation import FIRST_PROVIDER
from appliance.payment.operate import Operations
from appliance.payment.resolve import Resolver
from appliance.payment.webhooks import Webhooks
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.doors import Doors
from appliance.wiring.opening import stripe_settings


class CardParts:
    """Nothing at all where no provider is set up."""

    def __init__(self, *, settings: Settings, clock: Clock, log: Log, metrics: Metrics) -> None:
        self._stripe = settings.provider.stripe
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._watch: AccountWatch | None = None
        self._webhooks: Webhooks | None = None

    def begin(self, supervisor: Supervisor) -> None:
        """Start what runs; nothing here is waited for, so an outage stops no start."""
        stripe = self._stripe
        if stripe is not None:
            supervisor.start("card account", lambda: self._run_watch(stripe), restart=Restart.ON_CRASH)

    def listen(
        self, supervisor: Supervisor, operations: Operations, resolver: Resolver, ledger: Ledger, log_origin: str
    ) -> None:
        """Look into webhooks, where the settings have a secret for them."""
        stripe = self._stripe
        if stripe is None or stripe.webhooks is None:
            return
        self._webhooks = Webhooks(
            reader=StripeWebhooks(
                secret=read_secret(stripe.webhooks.secret_path),
                is_live=is_live_key(read_secret(stripe.api_key_path)),
                clock=self._clock,
            ),
            log_origin=log_origin,
            provider=FIRST_PROVIDER,
            hurry=lambda reference: operations.providers.hurry(FIRST_PROVIDER, reference),
            find=lambda operation, known: operations.find(operation, since_ms=operation.prepared_ms, known=known),
            resolver=resolver,
            ledger=ledger,
            clock=self._clock,
            log=self._log,
            count=lambda outcome: self._metrics.webhook("stripe", outcome),
        )
        supervisor.start("webhooks", self._webhooks.run, restart=Restart.ON_CRASH)

    async def open_door(self, doors: Doors, middleware: Middleware) -> dict[str, OpenDoor]:
        """The relay's door by its name, where there are webhooks."""
        stripe = self._stripe
        if stripe is None or stripe.webhooks is None or self._webhooks is None:
            return {}
        door = WebhookDoor(provider=FIRST_PROVIDER, webhooks=self._webhooks, clock=self._clock)
        host, port = stripe.webhooks.host, stripe.webhooks.port
        return {"webhook": await doors.open_tcp("webhook", door.application(middleware), host=host, port=port)}

    def admit(self) -> None:
        """Raises Unavailable `provider_credentials_wrong` when the provider said plainly that the key is not ours."""
        if self._watch is not None and self._watch.state.is_wrong:
            raise Unavailable("provider_credentials_wrong", self._watch.state.sentence)

    @property
    def checks(self) -> Sequence[Check]:
        """What health says of cards."""
        if self._stripe is None:
            return ()
        return (self._finding,) if self._stripe.webhooks is None else (self._finding, self._webhook_finding)

    def _finding(self) -> Finding:
        if self._watch is None:
            return Finding(check="cards", level=Level.OK, sentence="Stripe was not asked yet whose key this is.")
        return account_finding(self._watch.state)

    def _webhook_finding(self) -> Finding:
        return webhook_finding({} if self._webhooks is None else self._webhooks.alarms())

    async def _run_watch(self, stripe: Stripe) -> None:
        session = await StripeSession.open(settings=stripe_settings(stripe), clock=self._clock)
        try:
            self._watch = AccountWatch(session=session, expected=stripe.account, clock=self._clock, log=self._log)
            await self._watch.run()
        finally:
            await session.close()


def account_finding(state: AccountState) -> Finding:
    """A wrong key never stops cash; the log is told about by other checks."""
    steps = {
        "refused": "Put a valid key into the file of provider.stripe.api_key_path and restart.",
        "foreign": "Compare provider.stripe.account with the key in api_key_path, correct one of them and restart.",
        "unreadable": "Give the restricted key the right to read its account, or nobody notices a key of another shop.",
        "away": "Wait: it is asked again by itself. Look at the internet line if it stays so.",
    }
    is_fine = state.kind in ("ok", "unnamed", "unasked")
    level = Level.OK if is_fine else Level.COPING
    return Finding(check="cards", level=level, sentence=state.sentence, next_step=steps.get(state.kind, ""))


def stranger_finding(strangers: Mapping[ProviderName, int]) -> Finding:
    """Payments that only a provider can tell about whom the settings no longer name."""
    if not strangers:
        return Finding(check="providers", level=Level.OK, sentence="Every open payment's provider is set up.")
    told = ", ".join(f"{name}: {count}" for name, count in strangers.items())
    return Finding(
        check="providers",
        level=Level.COPING,
        sentence=f"Payments stay being checked, because the settings no longer name their provider ({told}).",
        next_step="Put the provider's section back into the settings and restart, until these payments have an end.",
    )


def webhook_finding(alarms: Mapping[str, int], *, check: str = "webhooks", provider: str = "Stripe") -> Finding:
    """What came to the relay's door within an hour and was not an ordinary hint; none of it changed anything."""
    if not alarms:
        return Finding(check=check, level=Level.OK, sentence="Webhooks are as they should be.")
    told = ", ".join(f"{outcome.replace('_', ' ')} {times}" for outcome, times in alarms.items())
    step = "Look at the relay: who sends them?"
    if "contradicts" in alarms:
        step = f"Reconcile with {provider}'s list of payments."
    return Finding(check=check, level=Level.COPING, sentence=f"Webhooks that changed nothing: {told}.", next_step=step)

"""What stands beside the card provider: whose key it is, and what that means for cards and for health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.adapters.stripe_account import AccountState, AccountWatch
from appliance.adapters.stripe_session import StripeSession
from appliance.config.card_provider import Stripe
from appliance.config.schema import Settings
from appliance.device.health import Check, Finding, Level
from appliance.model.errors import Unavailable
from appliance.model.ids import ProviderName
from appliance.payment.contradictions import Contradicted
from appliance.payment.resolve import Resolver
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.opening import stripe_settings


class CardParts:
    """Nothing at all where no provider is set up."""

    def __init__(self, *, settings: Settings, clock: Clock, log: Log) -> None:
        self._stripe = settings.provider.stripe
        self._outbound = settings.outbound
        self._clock = clock
        self._log = log
        self._watch: AccountWatch | None = None

    def begin(self, supervisor: Supervisor) -> None:
        """Start what runs; nothing here is waited for, so an outage stops no start."""
        stripe = self._stripe
        if stripe is not None:
            supervisor.start("card account", lambda: self._run_watch(stripe), restart=Restart.ON_CRASH)

    def admit(self) -> None:
        """Raises Unavailable `provider_credentials_wrong` when the provider said plainly that the key is not ours."""
        if self._watch is not None and self._watch.state.is_wrong:
            raise Unavailable("provider_credentials_wrong", self._watch.state.sentence)

    def account(self) -> str | None:
        """Which account the key opens, as Stripe said; None: it did not say so yet."""
        return None if self._watch is None else self._watch.state.account

    @property
    def checks(self) -> Sequence[Check]:
        """What health says of cards."""
        return () if self._stripe is None else (self._finding,)

    def _finding(self) -> Finding:
        if self._watch is None:
            return Finding(check="cards", level=Level.OK, sentence="Stripe was not asked yet whose key this is.")
        return account_finding(self._watch.state)

    async def _run_watch(self, stripe: Stripe) -> None:
        session = await StripeSession.open(settings=stripe_settings(stripe, self._outbound), clock=self._clock)
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


def resolver_checks(resolver: Resolver) -> Sequence[Check]:
    """What health says of operations that nobody is asking about."""
    return (
        lambda: stranger_finding(resolver.strangers),
        lambda: contradiction_finding(resolver.contradictions.told),
    )


def contradiction_finding(told: Sequence[Contradicted]) -> Finding:
    """Money that a provider has of a payment that the log closed without any."""
    if not told:
        return Finding(check="contradictions", level=Level.OK, sentence="No money came after its payment was closed.")
    said = "; ".join(f"{each.money} at {each.provider} for {each.payment} (entry {each.seq})" for each in told[:5])
    more = f"; and {len(told) - 5} more" if len(told) > 5 else ""
    return Finding(
        check="contradictions",
        level=Level.COPING,
        sentence=f"Money came after its payment was closed as not paid: {said}{more}. The log stays as it is.",
        next_step="Give it back at the provider, unless the customer has the goods. This is told for 30 days.",
    )


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

"""Which provider is asked: for a new payment the one that its tender names, for everything later the one in its intent.

Must never answer for a provider that the settings no longer name: its operations stay open, and health says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.model.errors import Unavailable
from appliance.model.ids import ProviderName, ProviderReference
from appliance.model.operation import Operation, OperationKind
from appliance.model.sale import TenderKind
from appliance.ports import provider as port


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """One provider of the settings.

    Attributes:
        tender: the tenders that it takes.
        admit: raises Unavailable when it is known to refuse this box: no new payment is begun with it.
        offers: where the customer agrees there first.
        holds: the same one where money can be held there.
        forwards: the same one where cards may be accepted offline.
        is_paid_by_customer: customers move the money there themselves, perhaps after nobody waits for it any more.
        account: whose account the credentials open, in the provider's own words; None: not known.
    """

    tender: TenderKind
    provider: port.Provider
    admit: Callable[[], None]
    offers: port.Offers | None = None
    holds: port.Holds | None = None
    forwards: port.Forwards | None = None
    is_paid_by_customer: bool = False
    account: Callable[[], str | None] = lambda: None


class Providers:
    """Everybody whom this box can ask, by name."""

    def __init__(self, set_up: Mapping[ProviderName, SetUp]) -> None:
        self._set_up = dict(set_up)

    def __contains__(self, name: object) -> bool:
        return name in self._set_up

    def of_tender(self, tender: TenderKind) -> ProviderName | None:
        """Who takes such a tender; None: nobody."""
        return next((name for name, each in self._set_up.items() if each.tender is tender), None)

    def beginning(self, name: ProviderName, *, is_captured_later: bool) -> OperationKind:
        """What the first operation of a payment is."""
        if self._set_up[name].offers is not None:
            return OperationKind.OFFER
        return OperationKind.RESERVE if is_captured_later else OperationKind.AUTHORISE

    def admit(self, name: ProviderName) -> None:
        """Raises Unavailable, for its own reason."""
        self._set_up[name].admit()

    def require(self, name: ProviderName) -> port.Provider:
        """Who is asked. Raises Unavailable `provider_not_configured`."""
        if name not in self._set_up:
            raise Unavailable("provider_not_configured", f"the settings no longer name the provider {name}")
        return self._set_up[name].provider

    def offers(self, name: ProviderName) -> port.Offers:
        """Where the customer agrees. Raises Unavailable `provider_not_configured`."""
        self.require(name)
        offers = self._set_up[name].offers
        if offers is None:
            raise Unavailable("provider_not_configured", f"the provider {name} makes no offers")
        return offers

    def holds(self, name: ProviderName) -> port.Holds | None:
        """Who holds money; None: this provider takes it at once. Raises Unavailable `provider_not_configured`."""
        self.require(name)
        return self._set_up[name].holds

    def forwards(self, name: ProviderName) -> port.Forwards | None:
        """Who accepts cards offline; None: this provider never does. Raises Unavailable `provider_not_configured`."""
        self.require(name)
        return self._set_up[name].forwards

    @property
    def paid_by_customers(self) -> frozenset[ProviderName]:
        """Where money may come after its payment was closed."""
        return frozenset(name for name, each in self._set_up.items() if each.is_paid_by_customer)

    @property
    def accounts(self) -> dict[str, str]:
        """Whose account is asked, by provider, as far as it is known at this moment."""
        known = {name: each.account() for name, each in sorted(self._set_up.items())}
        return {name: account for name, account in known.items() if account is not None}

    def give_up(self, operation: Operation) -> None:
        """Wait no longer for the customer of `operation`."""
        if operation.provider in self._set_up:
            self._set_up[operation.provider].provider.give_up(operation.provider_key)

    def hurry(self, name: ProviderName, reference: ProviderReference) -> bool:
        """Look at once at what a provider's webhook speaks of; False when nobody awaits an answer about it."""
        return name in self._set_up and self._set_up[name].provider.hurry(reference)

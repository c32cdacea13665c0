"""Builds the vault of provider tokens, what tills and operators ask of it, and what health says."""

from __future__ import annotations

from appliance.adapters.stripe_reader import is_reusable_token
from appliance.api.local.vault import VaultRoutes
from appliance.config.schema import Settings
from appliance.device.health import Finding, Level
from appliance.identity.authenticate import Authenticate
from appliance.ledger.ledger import Ledger
from appliance.model.operation import FIRST_PROVIDER
from appliance.payment.vault.safe import Safe
from appliance.payment.vault.vault import Vault
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.supervise import Restart, Supervisor
from appliance.till.tokens import Tokens
from appliance.wiring.trust import Trust


def make_safe(settings: Settings, trust: Trust) -> Safe:
    """Sealed tokens, under data keys that the HSM wraps."""
    return Safe(folder=settings.storage.path, cipher=trust.cipher, is_ready=lambda: trust.link.state.kind == "ok")


class VaultParts:
    """The vault of a box."""

    def __init__(self, *, settings: Settings, safe: Safe, ledger: Ledger, clock: Clock, log: Log) -> None:
        self._has_cards = settings.provider.stripe is not None
        self._safe = safe
        self._ledger = ledger
        self._clock = clock
        self.vault = Vault(safe=safe, ledger=ledger, clock=clock, log=log, is_in_clear=is_reusable_token)

    def begin(self, supervisor: Supervisor) -> None:
        """Start what runs: rotations, and the end of what was forgotten."""
        supervisor.start("vault", self.vault.run, restart=Restart.ON_CRASH)

    def tokens(self, authenticate: Authenticate, admission: Admission) -> Tokens:
        """The terminals' verb."""
        return Tokens(
            authenticate=authenticate,
            admission=admission,
            ledger=self._ledger,
            vault=self.vault,
            provider=FIRST_PROVIDER if self._has_cards else None,
            clock=self._clock,
        )

    def routes(self) -> VaultRoutes:
        """What operators ask, for the local door."""
        return VaultRoutes(vault=self.vault, safe=self._safe, ledger=self._ledger)

    def check(self) -> Finding:
        """A closed vault stops payments by token alone."""
        if self.vault.trouble is None:
            return Finding(check="vault", level=Level.OK, sentence="The vault of provider tokens is in order.")
        return Finding(
            check="vault",
            level=Level.COPING,
            sentence="The vault does not open: payments by a kept token are refused, all others go on.",
            next_step=f"See that the HSM works and vault.db can be read. It said: {self.vault.trouble}.",
        )

"""Builds escrow: parcels for terminals, and the questions about what a lost box left behind."""

from __future__ import annotations

from collections.abc import Callable

from appliance.api.local.escrow import EscrowRoutes
from appliance.config.schema import Settings
from appliance.crypto.hpke import read_recipient
from appliance.device.health import Finding, Level
from appliance.identity.authenticate import Authenticate
from appliance.ledger.ledger import Ledger
from appliance.ledger.trust import load_trust
from appliance.payment.escrow import Escrow
from appliance.payment.operate import Operations
from appliance.payment.recovery import Recovery
from appliance.ports.clock import Clock


def make_escrow(
    settings: Settings, authenticate: Authenticate, ledger: Ledger, operations: Operations, clock: Clock
) -> Escrow:
    """Sealed to the recovery recipient of the settings. Raises Rejected `recipient_key_malformed`."""
    escrow = settings.escrow
    recipient = None if escrow is None else read_recipient(escrow.recipient_path.read_bytes())
    return Escrow(
        authenticate=authenticate,
        ledger=ledger,
        recipient=recipient,
        accounts=lambda: operations.providers.accounts,
        clock=clock,
    )


def escrow_finding(*, is_set_up: bool) -> Finding:
    """What is left when the box is lost for good."""
    kept = "Tills keep sealed parcels of what is open: a lost box can be asked after elsewhere."
    none = "No escrow is set up: what is open at a provider when this box is lost has to be found by hand."
    return Finding(check="escrow", level=Level.OK, sentence=kept if is_set_up else none)


def escrow_routes(
    settings: Settings, ledger: Ledger, operations_of: Callable[[str], Operations], clock: Clock
) -> EscrowRoutes:
    """For the local door; `operations_of` asks providers in the name of the log of that origin."""
    return EscrowRoutes(
        recovery=Recovery(ledger=ledger, operations_of=operations_of, clock=clock, settle_ms=settings.limits.settle_ms),
        trust=lambda: load_trust(settings.storage.trust_path.read_bytes()),
        log_id=ledger.log_id,
    )

"""Capture: money that a card's bank holds is taken: the sale's total, and the tip as it is known now.

The terminal that sold captures, once, before the authorisation expires. What is decided on a look is held by the guard
`Unchanged`, so of two captures one wins.
"""

from __future__ import annotations

from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey, request_key
from appliance.model.operation import OperationKind
from appliance.model.payment import AuthenticatedRequest, Identity, PaymentState
from appliance.payment.follow_up import FollowUp
from appliance.payment.guards import Unchanged, require_known, unused
from appliance.payment.looking import look, until_unchanged
from appliance.payment.records import StandingPayment
from appliance.ports.clock import Clock
from appliance.wire.requests import CaptureBody


class Capture:
    """The verb. It returns when its intent is durable; the provider is asked in the background."""

    def __init__(self, *, ledger: Ledger, follow_up: FollowUp, clock: Clock) -> None:
        self._ledger = ledger
        self._follow_up = follow_up
        self._clock = clock

    async def __call__(self, request: AuthenticatedRequest[CaptureBody]) -> RequestKey:
        """Take what `request` asks for; returns the payment's key.

        Raises:
            Rejected: unknown, not held, expired, sold by another terminal, more than what is held, or less than the
                sale's total.
        """
        payment = request_key(request.body.of)
        await until_unchanged(self._ledger, request.identity, payment, lambda: self._try(request, payment))
        return payment

    async def _try(self, request: AuthenticatedRequest[CaptureBody], payment: RequestKey) -> None:
        identity = request.identity
        standing = require_known(await look(self._ledger, identity, payment))
        self._require_held(standing, identity)
        amount = standing.held_minor if request.body.amount_minor is None else request.body.amount_minor
        total = standing.recorded.total_minor
        if amount > standing.held_minor:
            raise Rejected(
                "capture_above_authorisation",
                f"expected at most {standing.held_minor} minor units, which the card's bank holds; saw {amount}",
            )
        if amount < total:
            raise Rejected(
                "capture_below_total",
                f"expected the sale's total of {total} and the tip, saw {amount}; refund lines after the capture",
            )
        guard = Unchanged(standing=standing, fresh=unused(identity.key))
        await self._follow_up(OperationKind.CAPTURE, amount, guard, asked_by=identity)

    def _require_held(self, standing: StandingPayment, identity: Identity) -> None:
        state = standing.recorded.state
        # What was cancelled before it came has no seller: its terminal is the one that cancelled it.
        if standing.terminal != identity.terminal and state is not PaymentState.CANCELLED:
            raise Rejected("payment_of_another_terminal", "the terminal that sold captures; another one may reverse")
        if state is PaymentState.CHECKING:
            raise Rejected("payment_open", "the payment is still being checked: wait for its outcome")
        if state is PaymentState.EXPIRED or self._clock.now_ms() >= (standing.capture_before_ms or 0) > 0:
            raise Rejected("authorisation_expired", "the card's bank holds the money no longer: sell anew")
        if state is not PaymentState.AUTHORISED:
            raise Rejected("payment_not_held", f"the payment is {state}: nothing is held that could be captured")

"""Refund: a standing payment is given back, all of it or a part, the way it came.

A part is an amount or lines of the sale; several refunds follow each other until nothing is left. While one is being
checked the payment is open and takes no other, so what it asks for is held. What is decided on a look is written only
where the payment still stands as it was seen: of two terminals one wins, the other decides anew.

Of a sale paid in parts each part gives back what it took, never more; lines are the sale's, whichever part pays for
them, and with an amount one part pays for some of their worth only.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from appliance.ledger.guard import Guard
from appliance.ledger.ledger import Ledger
from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey, request_key
from appliance.model.parts import SaleInParts
from appliance.model.payment import AuthenticatedRequest, Identity
from appliance.model.refund import Part, Share, Worth, parts_worth, shared
from appliance.model.sale import Sale
from appliance.model.screening import ScreeningRefused
from appliance.payment.give_back import GiveBack
from appliance.payment.guards import Unchanged, require_known, require_payment, require_standing, unused
from appliance.payment.looking import look, until_unchanged
from appliance.payment.parts import LinesUnchanged, find_sale
from appliance.payment.records import StandingPayment, returned_lines, sale_facts
from appliance.payment.sale_facts import sale_of
from appliance.payment.screening.features import Asked
from appliance.payment.screening.judge import Screener
from appliance.wire.entries import RefundFacts, ReturnedTax
from appliance.wire.requests import RefundBody


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sold:
    """What was sold, and how much of each line went back."""

    sale: Sale
    returned: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What goes back, how it is split by tax (only lines tell), and what must hold beside the payment itself."""

    share: Share
    taxes: tuple[ReturnedTax, ...] = ()
    also: Guard | None = None


class Refund:
    """The verb. It returns when its effect is durable; a card's part goes on in the background."""

    def __init__(self, *, ledger: Ledger, give_back: GiveBack, screener: Screener, cash_step_minor: int) -> None:
        self._ledger = ledger
        self._give_back = give_back
        self._screener = screener
        self._cash_step_minor = cash_step_minor

    async def __call__(self, request: AuthenticatedRequest[RefundBody]) -> RequestKey:
        """Give back what `request` asks for; returns the payment's key.

        Raises:
            ScreeningRefused: a rule lets no money move; recorded.
            Rejected: unknown, open, took no money, all given back, or more than what is left.
        """
        body = request.body
        refuse_card_numbers((body.reason,))
        payment = request_key(body.of)
        try:
            await until_unchanged(self._ledger, request.identity, payment, lambda: self._try(request, payment))
        except ScreeningRefused as refusal:
            await self._screener.record_refused(refusal, request.identity, "refund")
            raise
        return payment

    async def _try(self, request: AuthenticatedRequest[RefundBody], payment: RequestKey) -> None:
        body, identity = request.body, request.identity
        standing = require_known(await look(self._ledger, identity, payment))
        require_standing(standing)
        if standing.held_minor:
            raise Rejected("payment_not_captured", "the card was not charged yet: reverse the payment instead")
        sale = await self._ledger.read(lambda connection: find_sale(connection, payment))
        if sale is not None and sale.closed_by is None and not sale.is_complete:
            raise Rejected("sale_not_complete", "the sale is not paid yet: reverse this part, or give the sale up")
        given = await self._given(standing, body, sale)
        share = given.share
        facts = RefundFacts(
            cash=share.cash_minor,
            card=share.card_minor,
            stated=share.stated_minor,
            voucher=share.voucher_minor,
            left=standing.left.total_minor - share.total_minor,
            lines=body.lines,
            taxes=given.taxes,
            reason=body.reason,
        )
        guard = Unchanged(standing=standing, fresh=unused(identity.key), also=given.also)
        verdict = self._screener.refund(identity, self._asked(standing, share, identity))
        with self._screener.counting_refund(identity, verdict, share.total_minor):
            await self._give_back.refund(facts, guard, identity, verdict)

    def _asked(self, standing: StandingPayment, share: Share, identity: Identity) -> Asked:
        at_ms = identity.received_ms
        return Asked(
            at_ms=at_ms,
            minute=self._screener.minute_of(at_ms),
            amount_minor=share.total_minor,
            currency=standing.recorded.currency,
            is_card=share.card_minor > 0,
            is_refund=True,
            refund_share=share.total_minor / standing.recorded.total_minor if standing.recorded.total_minor else 0.0,
            refund_age_ms=max(at_ms - standing.recorded.key.created_ms, 0),
            is_of_another_till=standing.terminal != identity.terminal,
        )

    async def _given(self, standing: StandingPayment, body: RefundBody, sale: SaleInParts | None) -> _Given:
        left = standing.left
        if not body.lines:
            if body.amount_minor is None:
                return _Given(share=left)
            return _Given(share=shared(body.amount_minor, left, cash_step_minor=self._cash_step_minor))
        if body.amount_minor is not None and sale is None:
            raise Rejected("amount_and_lines", "a refund is stated by its lines or by amount_minor, not by both")
        payment = standing.recorded.key
        sold = await self._ledger.read(lambda connection: _sold(connection, payment if sale is None else sale.key))
        parts = [Part(index=line.index, quantity_thousandths=line.quantity_thousandths) for line in body.lines]
        worth = parts_worth(sold.sale, sold.returned, parts)
        worth_minor = sum(each.gross_minor for each in worth)
        amount_minor = worth_minor if body.amount_minor is None else body.amount_minor
        if amount_minor > worth_minor:
            raise Rejected("refund_above_lines", f"expected at most {worth_minor} minor units, saw {amount_minor}")
        share = shared(
            amount_minor,
            left,
            cash_step_minor=self._cash_step_minor,
            slack_minor=self._cash_step_minor - 1 if standing.paid.cash_minor else 0,
        )
        returned = tuple(sorted(sold.returned.items()))
        also = None if sale is None else LinesUnchanged(sale=sale, payment=payment, returned=returned)
        return _Given(share=share, taxes=tuple([_returned(each) for each in worth]), also=also)


def _returned(worth: Worth) -> ReturnedTax:
    return ReturnedTax(
        tax_code=worth.tax_code,
        rate_basis_points=worth.tax_rate_basis_points,
        gross=worth.gross_minor,
        tax=worth.tax_minor,
    )


def _sold(connection: sqlite3.Connection, payment: RequestKey) -> _Sold:
    facts = sale_facts(connection, require_payment(connection, payment))
    return _Sold(sale=sale_of(facts), returned=returned_lines(connection, payment))

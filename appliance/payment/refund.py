"""Refund: a standing payment is given back, all of it or a part, the way it came.

A part is an amount or lines of the sale; several refunds follow each other until nothing is left. While one is being
checked the payment is open and takes no other, so what it asks for is held. What is decided on a look is written only
where the payment still stands as it was seen: of two terminals one wins, the other decides anew.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from appliance.ledger.ledger import Ledger
from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey, request_key
from appliance.model.payment import AuthenticatedRequest, Identity
from appliance.model.refund import Part, Share, Worth, parts_worth, shared
from appliance.model.sale import Sale, TenderKind
from appliance.model.screening import ScreeningRefused
from appliance.payment.give_back import GiveBack
from appliance.payment.guards import Unchanged, require_known, require_standing, unused
from appliance.payment.looking import look, until_unchanged
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
        if body.lines and body.amount_minor is not None:
            raise Rejected("amount_and_lines", "a refund is stated by its lines or by amount_minor, not by both")
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
        share, taxes = await self._share(standing, body)
        facts = RefundFacts(
            cash=share.cash_minor,
            card=share.card_minor,
            stated=share.stated_minor,
            voucher=share.voucher_minor,
            left=standing.left.total_minor - share.total_minor,
            lines=body.lines,
            taxes=taxes,
            reason=body.reason,
        )
        guard = Unchanged(standing=standing, fresh=unused(identity.key))
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

    async def _share(self, standing: StandingPayment, body: RefundBody) -> tuple[Share, tuple[ReturnedTax, ...]]:
        """What goes back, and how it is split by tax: only lines tell."""
        left = standing.left
        if body.amount_minor is not None:
            return shared(body.amount_minor, left, cash_step_minor=self._cash_step_minor), ()
        if not body.lines:
            return left, ()
        sold = await self._ledger.read(lambda connection: _sold(connection, standing))
        parts = [Part(index=line.index, quantity_thousandths=line.quantity_thousandths) for line in body.lines]
        has_cash = any(tender.kind is TenderKind.CASH for tender in sold.sale.tenders)
        worth = parts_worth(sold.sale, sold.returned, parts)
        share = shared(
            sum(each.gross_minor for each in worth),
            left,
            cash_step_minor=self._cash_step_minor,
            slack_minor=self._cash_step_minor - 1 if has_cash else 0,
        )
        return share, tuple([_returned(each) for each in worth])


def _returned(worth: Worth) -> ReturnedTax:
    return ReturnedTax(
        tax_code=worth.tax_code,
        rate_basis_points=worth.tax_rate_basis_points,
        gross=worth.gross_minor,
        tax=worth.tax_minor,
    )


def _sold(connection: sqlite3.Connection, standing: StandingPayment) -> _Sold:
    return _Sold(
        sale=sale_of(sale_facts(connection, standing)), returned=returned_lines(connection, standing.recorded.key)
    )

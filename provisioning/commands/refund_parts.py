"""Gives a sale that was paid in parts back, one refund for each part that has to give.

Owns the order: the newest part first. What one part cannot give the next one does; lines go back by one part, the
newest that can give all of their worth.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey, request_key
from appliance.model.money import Money
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import PaymentAnswer, SaleAnswer
from appliance.wire.requests import RefundLine
from provisioning.commands.outcome import CannotDo
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What refunds gave, in their order; and why the rest was not asked for."""

    answers: tuple[PaymentAnswer, ...]
    ended_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunding:
    """A till that gives back."""

    client: TerminalClient
    reason: str
    lines: tuple[RefundLine, ...]
    deadline: Deadline

    async def __call__(self, of: RequestKey, amount_minor: int | None, key: RequestKey) -> PaymentAnswer:
        """One refund of one payment. Raises as the client."""
        return await self.client.refund(
            of, key=key, reason=self.reason, amount_minor=amount_minor, lines=self.lines, deadline=self.deadline
        )

    async def of_sale(self, sale: SaleAnswer, amount_minor: int | None, key: RequestKey) -> Given:
        """The refunds of a sale; `key` is the first one's."""
        if self.lines:
            return Given(answers=(await self._by_lines(sale, amount_minor, key),))
        planned = shares(sale, amount_minor, currency=self.client.profile.currency)
        answers = []
        for at, (part, share_minor) in enumerate(planned):
            try:
                answers.append(await self(part, share_minor, self.client.new_key() if at else key))
            except (Rejected, Unavailable, OutcomeUnknown) as trouble:
                if not answers:
                    raise
                return Given(answers=tuple(answers), ended_by=str(trouble))
        return Given(answers=tuple(answers))

    async def _by_lines(self, sale: SaleAnswer, amount_minor: int | None, key: RequestKey) -> PaymentAnswer:
        for part in reversed(sale.parts):
            if part.left_minor:
                try:
                    return await self(request_key(part.key), amount_minor, key)
                except Rejected as refusal:
                    if refusal.code != "refund_above_left":
                        raise
        raise CannotDo(
            "no part of the sale can give back what these lines are worth",
            f"let two do it: {PROGRAM} refund KEY --part KEY --line ... --amount, then --part of another with the rest",
        )


def shares(sale: SaleAnswer, amount_minor: int | None, *, currency: str) -> list[tuple[RequestKey, int | None]]:
    """What each part gives, the newest first; None: all that it has. Raises CannotDo."""
    giving = [(request_key(part.key), part.left_minor) for part in reversed(sale.parts) if part.left_minor]
    if not giving:
        raise CannotDo(
            "nothing is left of the sale that could be given back (refund_above_left)", f"{PROGRAM} ledger history KEY"
        )
    if amount_minor is None:
        return [(part, None) for part, _ in giving]
    planned: list[tuple[RequestKey, int | None]] = []
    rest_minor = amount_minor
    for part, left_minor in giving:
        if rest_minor:
            planned.append((part, min(rest_minor, left_minor)))
            rest_minor -= min(rest_minor, left_minor)
    if rest_minor:
        left = sum(left_minor for _, left_minor in giving)
        raise CannotDo(
            f"only {Money(left, currency)} is left of the sale (refund_above_left)",
            "the same command with less, or without --amount",
        )
    return planned

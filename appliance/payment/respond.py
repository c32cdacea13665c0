"""Turns what the ledger says into the terminal's answer, with a receipt if one can be signed in time."""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection

import msgspec

from appliance.ledger.ledger import Ledger
from appliance.model.limits import SIGNATURE_WAIT_MS
from appliance.model.offline import Exposure
from appliance.model.parts import SaleInParts
from appliance.model.payment import PaymentState, RecordedPayment
from appliance.payment.guards import require_payment
from appliance.payment.offline_records import exposure
from appliance.payment.shown import CUSTOMER_ASKED, Shown
from appliance.ports.clock import Clock
from appliance.wire.answers import OfflineAnswer, PartAnswer, PaymentAnswer, SaleAnswer


class Respond:
    """The last stage; it changes nothing."""

    def __init__(self, *, ledger: Ledger, clock: Clock, shown: Shown) -> None:
        self._ledger = ledger
        self._shown = shown
        self._clock = clock

    async def final(self, recorded: RecordedPayment, verb: str, key: str) -> PaymentAnswer:
        """The durable result with its receipt; without one, and `pending`, when signing takes too long."""
        receipt = await receipt_in_time(self._ledger, recorded.entry_seqs)
        answer = self._answer(recorded, verb, key, receipt, is_pending=receipt is None)
        if recorded.state is PaymentState.ACCEPTED_OFFLINE or recorded.offline is not None:
            answer = msgspec.structs.replace(answer, offline=await self._offline(recorded))
        return answer

    async def _offline(self, recorded: RecordedPayment) -> OfflineAnswer:
        """The exposure, for the cashier whose sale hangs on it."""

        def read(connection: Connection) -> tuple[Exposure, Exposure]:
            standing = require_payment(connection, recorded.key)
            return exposure(connection, standing.terminal), exposure(connection)

        terminal, box = await self._ledger.read(read)
        exceeded = recorded.offline
        return OfflineAnswer(
            limit=None if exceeded is None else exceeded.limit.value,
            left_minor=0 if exceeded is None else exceeded.left_minor,
            terminal_minor=terminal.accepted_minor,
            terminal_count=terminal.accepted_count,
            box_minor=box.accepted_minor,
            box_count=box.accepted_count,
        )

    def accepted(self, recorded: RecordedPayment, verb: str, key: str) -> PaymentAnswer:
        """The intent is durable and the provider is being asked: events and `status` tell the rest."""
        return self._answer(recorded, verb, key, None, is_pending=False)

    async def current(self, recorded: RecordedPayment, verb: str, key: str) -> PaymentAnswer:
        """`accepted` for what is being checked, `final` for everything else."""
        if recorded.state is PaymentState.CHECKING:
            return self.accepted(recorded, verb, key)
        return await self.final(recorded, verb, key)

    def _answer(
        self, recorded: RecordedPayment, verb: str, key: str, receipt: bytes | None, *, is_pending: bool
    ) -> PaymentAnswer:
        return PaymentAnswer(
            key=key,
            verb=verb,
            state=recorded.state.value,
            seq=recorded.entry_seqs[-1],
            currency=recorded.currency,
            total_minor=recorded.total_minor,
            now_ms=self._clock.now_ms(),
            receipt=receipt,
            pending=is_pending,
            code=recorded.code,
            show=self._show_of(recorded),
            refunded_minor=recorded.refunded_minor,
            given_minor=recorded.given_minor,
            capture_before_ms=recorded.capture_before_ms,
            sale=None if recorded.sale is None else _sale(recorded.sale),
        )

    def _show_of(self, recorded: RecordedPayment) -> str | None:
        """Only once its name is durable: whoever pays at this address has paid, whatever the power does."""
        is_asked = recorded.state is PaymentState.CHECKING and recorded.code == CUSTOMER_ASKED
        return self._shown.of(recorded.key) if is_asked else None


def _sale(sale: SaleInParts) -> SaleAnswer:
    return SaleAnswer(
        key=str(sale.key),
        total_minor=sale.total_minor,
        paid_minor=sale.paid_minor,
        remaining_minor=0 if sale.closed_by is not None else sale.remaining_minor,
        closed="yes" if sale.closed_by is not None or sale.is_refunded else "no",
        parts=tuple(
            PartAnswer(
                key=str(part.key),
                state=part.state.value,
                total_minor=part.covers_minor,
                left_minor=part.left_minor,
            )
            for part in sale.parts
        ),
    )


async def receipt_in_time(ledger: Ledger, seqs: Sequence[int]) -> bytes | None:
    """The receipt that an answer carries; None when signing takes too long: the answer is `pending` then."""
    receipt = await ledger.receipts(seqs, SIGNATURE_WAIT_MS)
    return None if receipt is None else receipt.encode()

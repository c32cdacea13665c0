"""Code that must not type-check: each function skips a stage of a payment. Never run, only read by mypy.

Each ignore is the expectation: were its line to type-check, `mypy` itself would call the ignore unused, and
`test_wrong_order.py` looks for exactly these errors with the ignores taken away.
"""

from __future__ import annotations

from appliance.identity.signed import SignedRequest
from appliance.ledger.ledger import Ledger
from appliance.model.operation import FIRST_PROVIDER, Operation, OperationKind
from appliance.model.payment import AuthenticatedRequest, ClearedPayment, PreparedPayment, ValidPayment
from appliance.model.sale import Tender
from appliance.payment.authorise import prepare
from appliance.payment.operate import Operations
from appliance.payment.record import being_checked, record_sale
from appliance.payment.respond import Respond
from appliance.payment.screen import screen
from appliance.payment.screening.judge import Screener
from appliance.payment.validate import ShopRules, validate
from appliance.ports.admission import Admission
from appliance.wire.requests import PaymentBody


def validate_what_nobody_signed(signed: SignedRequest, rules: ShopRules) -> ValidPayment:
    return validate(signed, rules)  # type: ignore[arg-type] # not authenticated


def screen_what_was_not_validated(
    request: AuthenticatedRequest[PaymentBody], admission: Admission, screener: Screener
) -> ClearedPayment:
    return screen(request, admission=admission, takes=lambda _: True, screener=screener)  # type: ignore[arg-type] # not validated


async def record_what_was_not_cleared(valid: ValidPayment, ledger: Ledger) -> None:
    await record_sale(valid, ledger, 0)  # type: ignore[arg-type] # not cleared


async def prepare_what_was_not_cleared(valid: ValidPayment, card: Tender, ledger: Ledger) -> PreparedPayment:
    kind = OperationKind.AUTHORISE
    return await prepare(valid, card, FIRST_PROVIDER, kind, ledger, 0)  # type: ignore[arg-type] # not cleared


def ask_before_there_is_an_intent(cleared: ClearedPayment, operations: Operations) -> None:
    operations.start(cleared, bytes(32))  # type: ignore[arg-type] # no durable intent


def ask_for_what_was_not_spent(prepared: PreparedPayment, operations: Operations) -> None:
    operations.start(prepared, prepared.intent_hash)  # type: ignore[arg-type] # not spent


def tell_what_has_no_intent(cleared: ClearedPayment) -> None:
    being_checked(cleared)  # type: ignore[arg-type] # no durable intent


async def answer_what_was_not_recorded(prepared: PreparedPayment, respond: Respond) -> None:
    await respond.final(prepared, "payment", "")  # type: ignore[arg-type] # not recorded


def spend_what_was_only_cleared(cleared: ClearedPayment) -> Operation:
    return cleared.spend()  # type: ignore[attr-defined,no-any-return] # only a prepared payment is spent

"""The twin behaves as Stripe's published pages say; each test names its page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.stripe_twin import TwinProcess

PAYMENTS: Final = "/v1/payment_intents"
REFUNDS: Final = "/v1/refunds"
DAY_MS: Final = 24 * 3_600_000


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[TwinProcess]:
    async with TwinProcess(tmp_path) as process:
        yield process


def form(**more: str) -> dict[str, str]:
    return {"amount": "1000", "currency": "eur", "confirm": "true", "payment_method": "pm_card_visa"} | more


async def paid(twin: TwinProcess, **more: str) -> dict[str, Any]:
    status, payment = await twin.post(PAYMENTS, form(**more))
    assert status == 200, payment
    return payment


async def test_the_first_answer_is_repeated_under_its_key(twin: TwinProcess) -> None:
    """docs.stripe.com/api/idempotent_requests"""
    first = await twin.post(PAYMENTS, form(), key="k")
    assert await twin.post(PAYMENTS, form(), key="k") == first
    assert len(await twin.charges()) == 1


async def test_other_parameters_under_a_key_are_an_error(twin: TwinProcess) -> None:
    """docs.stripe.com/api/idempotent_requests: parameters are compared with the original request's"""
    await twin.post(PAYMENTS, form(), key="k")
    status, body = await twin.post(PAYMENTS, form(amount="1001"), key="k")
    assert (status, body["error"]["type"]) == (400, "idempotency_error")
    assert len(await twin.charges()) == 1


async def test_a_key_in_use_is_a_conflict(twin: TwinProcess) -> None:
    """docs.stripe.com/api/errors, 409: "perhaps due to using the same idempotent key" """
    await twin.fault("hold")
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(twin.post(PAYMENTS, form(), key="k")) for _ in range(2)]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        await twin.control("DELETE", "faults")
    assert sorted(task.result()[0] for task in both) == [200, 409]
    assert len(await twin.charges()) == 1


async def test_failed_validation_is_not_remembered(twin: TwinProcess) -> None:
    """docs.stripe.com/api/idempotent_requests: no result is saved when parameters fail validation"""
    status, body = await twin.post(PAYMENTS, form(amount="-1"), key="k")
    assert (status, body["error"]["code"]) == (400, "parameter_invalid_integer")
    assert (await twin.post(PAYMENTS, form(), key="k"))[0] == 200


async def test_a_500_after_execution_began_is_remembered(twin: TwinProcess) -> None:
    """docs.stripe.com/api/idempotent_requests: "including 500 errors" """
    await twin.fault("error_after_processing")
    assert (await twin.post(PAYMENTS, form(), key="k"))[0] == 500
    assert (await twin.post(PAYMENTS, form(), key="k"))[0] == 500
    assert len(await twin.charges()) == 1


async def test_a_500_before_execution_is_not_remembered(twin: TwinProcess) -> None:
    """docs.stripe.com/api/idempotent_requests: results are saved after the endpoint began executing"""
    await twin.fault("error_then_success")
    assert (await twin.post(PAYMENTS, form(), key="k"))[0] == 500
    assert (await twin.post(PAYMENTS, form(), key="k"))[0] == 200
    assert len(await twin.charges()) == 1


async def test_after_24_hours_the_same_key_charges_anew(twin: TwinProcess) -> None:
    """docs.stripe.com/api/idempotent_requests: a reused key whose original was pruned makes a new request.

    This is why a key is sent once, ever.
    """
    await twin.post(PAYMENTS, form(), key="k")
    await twin.advance(DAY_MS - 60_000)
    await twin.post(PAYMENTS, form(), key="k")
    assert len(await twin.charges()) == 1
    await twin.advance(60_000)
    await twin.post(PAYMENTS, form(), key="k")
    assert len(await twin.charges()) == 2


@pytest.mark.parametrize(
    ("method", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
    ],
)
async def test_test_cards_decline_as_they_are_named(
    twin: TwinProcess, method: str, code: str, decline_code: str
) -> None:
    """docs.stripe.com/testing, docs.stripe.com/declines/codes"""
    status, body = await twin.post(PAYMENTS, form(payment_method=method))
    error = body["error"]
    assert (status, error["type"], error["code"]) == (402, "card_error", code)
    assert error["decline_code"] == decline_code
    assert error["payment_intent"]["status"] == "requires_payment_method"
    assert await twin.charges() == []


async def test_a_payment_walks_the_documented_states(twin: TwinProcess) -> None:
    """docs.stripe.com/payments/paymentintents/lifecycle"""
    _, payment = await twin.post(PAYMENTS, {k: v for k, v in form(capture_method="manual").items() if k != "confirm"})
    assert payment["status"] == "requires_confirmation"
    path = f"{PAYMENTS}/{payment['id']}"
    assert (await twin.post(f"{path}/confirm", {}))[1]["status"] == "requires_capture"
    _, captured = await twin.post(f"{path}/capture", {"amount_to_capture": "400"})
    assert (captured["status"], captured["amount_received"]) == ("succeeded", 400)
    status, body = await twin.post(f"{path}/cancel", {})
    assert (status, body["error"]["code"]) == (400, "payment_intent_unexpected_state")
    assert (await twin.get(path))[1] == captured


async def test_an_uncaptured_payment_is_cancelled_for_good(twin: TwinProcess) -> None:
    """docs.stripe.com/api/payment_intents/cancel"""
    payment = await paid(twin, capture_method="manual")
    assert (await twin.post(f"{PAYMENTS}/{payment['id']}/cancel", {}))[1]["status"] == "canceled"
    assert (await twin.post(f"{PAYMENTS}/{payment['id']}/capture", {}))[0] == 400
    assert await twin.charges() == []


async def test_refunds_stop_at_what_is_left(twin: TwinProcess) -> None:
    """docs.stripe.com/api/refunds/create: never more than the original charge"""
    payment = await paid(twin)
    assert (await twin.post(REFUNDS, {"payment_intent": payment["id"], "amount": "600"}))[0] == 200
    assert (await twin.post(REFUNDS, {"payment_intent": payment["id"], "amount": "401"}))[0] == 400
    assert (await twin.post(REFUNDS, {"payment_intent": payment["id"]}))[1]["amount"] == 400
    _, body = await twin.post(REFUNDS, {"payment_intent": payment["id"]})
    assert body["error"]["code"] == "charge_already_refunded"
    (charge,) = await twin.charges()
    assert charge["refunded"] == 1000


async def test_lists_are_newest_first_and_paged(twin: TwinProcess) -> None:
    """docs.stripe.com/api/pagination"""
    made = [(await paid(twin))["id"] for _ in range(5)]
    _, first = await twin.get(PAYMENTS, {"limit": "2"})
    assert [item["id"] for item in first["data"]] == [made[4], made[3]]
    assert first["has_more"] is True
    _, rest = await twin.get(PAYMENTS, {"limit": "3", "starting_after": made[3]})
    assert [item["id"] for item in rest["data"]] == [made[2], made[1], made[0]]
    assert rest["has_more"] is False
    _, back = await twin.get(PAYMENTS, {"limit": "2", "ending_before": made[1]})
    assert [item["id"] for item in back["data"]] == [made[3], made[2]]


async def test_lists_keep_to_the_created_window(twin: TwinProcess) -> None:
    """docs.stripe.com/api/payment_intents/list"""
    old = await paid(twin)
    await twin.advance(3_600_000)
    new = await paid(twin)
    _, page = await twin.get(PAYMENTS, {"created[gte]": str(new["created"])})
    assert [item["id"] for item in page["data"]] == [new["id"]]
    _, page = await twin.get(PAYMENTS, {"created[lt]": str(new["created"])})
    assert [item["id"] for item in page["data"]] == [old["id"]]


@pytest.mark.parametrize(("currency", "amount"), [("isk", "150"), ("kwd", "5123")])
async def test_amounts_too_fine_for_the_networks_are_refused(twin: TwinProcess, currency: str, amount: str) -> None:
    """docs.stripe.com/currencies, "Special cases" and "Three-decimal currencies" """
    assert (await twin.post(PAYMENTS, form(currency=currency, amount=amount)))[0] == 400


async def test_unknown_parameters_and_paths_are_refused(twin: TwinProcess) -> None:
    """docs.stripe.com/error-codes: parameter_unknown"""
    status, body = await twin.post(PAYMENTS, form(colour="red"))
    assert (status, body["error"]["code"]) == (400, "parameter_unknown")
    assert (await twin.get("/v1/rockets"))[0] == 404


async def test_payment_method_types_can_no_longer_be_asked_for(twin: TwinProcess) -> None:
    """docs.stripe.com/changelog/endive/2026-09-30, "Removes the payment method types parameter from Payment Intents and
    Setup Intents": a 400 in the version that the adapter pins; allowed_payment_method_types takes its place"""
    status, body = await twin.post(PAYMENTS, form(**{"payment_method_types[0]": "card"}))
    assert (status, body["error"]["code"]) == (400, "payment_method_types_no_longer_supported")
    payment = await paid(twin, **{"allowed_payment_method_types[0]": "card"})
    assert payment["payment_method_types"] == ["card"]


async def test_a_live_key_and_no_key_are_refused(twin: TwinProcess) -> None:
    """docs.stripe.com/api/authentication; the twin takes test keys only"""
    assert (await twin.post(PAYMENTS, form(), bearer="sk_live_1"))[0] == 401
    assert (await twin.post(PAYMENTS, form(), bearer=""))[0] == 401


async def test_money_keys_and_clock_survive_a_power_cut(twin: TwinProcess) -> None:
    first = await twin.post(PAYMENTS, form(), key="k")
    before = (await twin.control("GET", "clock"))["now_ms"]
    twin.kill()
    twin.start()
    assert (await twin.control("GET", "clock"))["now_ms"] >= before
    assert await twin.post(PAYMENTS, form(), key="k") == first
    assert len(await twin.charges()) == 1


async def test_control_needs_its_token(twin: TwinProcess) -> None:
    status, _ = await twin.get("/_twin/charges")
    assert status == 401


async def test_an_attached_payment_method_is_good_with_its_customer_alone(twin: TwinProcess) -> None:
    """docs.stripe.com/payments/save-and-reuse: the customer is named with its payment method"""
    kept = await twin.control("POST", "kept-cards")
    other = await twin.control("POST", "kept-cards")
    for customer in ({}, {"customer": other["customer"]}):
        status, body = await twin.post(PAYMENTS, form(payment_method=kept["id"], **customer))
        assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    payment = await paid(twin, payment_method=kept["id"], customer=kept["customer"])
    assert (payment["status"], payment["customer"]) == ("succeeded", kept["customer"])
    assert len(await twin.charges()) == 1


REQUESTED: Final = {"payment_method_options[card][request_partial_authorization]": "if_available"}
PARTIAL: Final = {"payment_method": "pm_card_debit_partialAuthorization", "amount": "1001"}


async def test_the_partial_card_gives_seventy_percent_rounded_down(twin: TwinProcess) -> None:
    """docs.stripe.com/payments/partial-authorization, "Test your integration" and "Use auto-capture" """
    payment = await paid(twin, **PARTIAL, **REQUESTED, **{"expand[]": "latest_charge"})
    taken = {name: payment[name] for name in ("amount", "amount_received", "amount_capturable", "status")}
    assert taken == {"amount": 700, "amount_received": 700, "amount_capturable": 0, "status": "succeeded"}
    card = payment["latest_charge"]["payment_method_details"]["card"]
    assert card == {
        "amount_authorized": 700,
        "amount_requested": 1001,
        "partial_authorization": {"status": "partially_authorized"},
    }


async def test_the_partial_card_has_too_little_where_nothing_was_requested(twin: TwinProcess) -> None:
    """docs.stripe.com/payments/partial-authorization: "Otherwise, it declines it with an insufficient funds error" """
    status, body = await twin.post(PAYMENTS, form(**PARTIAL))
    assert (status, body["error"]["decline_code"]) == (402, "insufficient_funds")


@pytest.mark.parametrize(("more", "status"), [({}, "not_requested"), (REQUESTED, "fully_authorized")])
async def test_a_charge_says_whether_less_was_requested(twin: TwinProcess, more: dict[str, str], status: str) -> None:
    """docs.stripe.com/payments/partial-authorization, "Verify partial authorization status" """
    payment = await paid(twin, **more, **{"expand[]": "latest_charge"})
    details = payment["latest_charge"]["payment_method_details"]["card"]
    assert (details["partial_authorization"]["status"], payment["amount"]) == (status, 1000)


async def test_a_charge_is_shown_where_it_is_asked_for(twin: TwinProcess) -> None:
    """docs.stripe.com/expand: an id becomes its object, in lists under `data`"""
    payment = await paid(twin)
    assert isinstance(payment["latest_charge"], str)
    _, listed = await twin.get(PAYMENTS, {"expand[]": "data.latest_charge"})
    assert listed["data"][0]["latest_charge"]["id"] == payment["latest_charge"]
    status, body = await twin.get(PAYMENTS, {"expand[]": "data.metadata"})
    assert (status, body["error"]["param"]) == (400, "expand")

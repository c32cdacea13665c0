"""Orders, captures and refunds of the PayPal twin, and its money oracle. Changes only the store.

Source, per rule: developer.paypal.com/api/orders/v2/definitions/order_status (states),
developer.paypal.com/sdk/orders/v2/orders-capture (only what the payer approved is captured, once),
developer.paypal.com/platforms/checkout/standard/customize/handle-funding-failures (INSTRUMENT_DECLINED),
developer.paypal.com/api/payments/v2/errors (refunds), developer.paypal.com/checkout/manage-payment.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from provisioning.sandbox.paypal_twin_events import emit
from provisioning.sandbox.paypal_twin_report import ReportRefusal, book_capture, book_refund, listing
from provisioning.sandbox.stripe_twin_store import TwinStore
from provisioning.sandbox.twin_rest import Answered, TwinRefusal

WHOLE: Final = frozenset({"HUF", "JPY", "TWD"})
"""Currencies without decimals: developer.paypal.com/api/rest/reference/currency-codes."""
_VALUE: Final = re.compile(r"\A[0-9]{1,10}(?:\.[0-9]{1,2})?\Z")
_NO_DECIMALS: Final = re.compile(r"\A[0-9]{1,10}\Z")


class PayPalRefusal(TwinRefusal):
    """A typed error."""

    def __init__(self, issue: str, *, status: int = 422, name: str = "UNPROCESSABLE_ENTITY") -> None:
        said = {"name": name, "message": f"refused: {issue}", "debug_id": "0", "details": [{"issue": issue}]}
        super().__init__(Answered(status=status, body=said))


def route(store: TwinStore, method: str, path: str, body: dict[str, Any], base: str) -> Answered:
    """Do what the API does; `body` of a GET is its query. Raises PayPalRefusal."""
    match method, path.strip("/").split("/"):
        case "POST", ["v2", "checkout", "orders"]:
            return Answered(status=201, body=_create(store, body, base))
        case "GET", ["v2", "checkout", "orders", order]:
            return Answered(status=200, body=_shown(_get(store, "order", order)))
        case "POST", ["v2", "checkout", "orders", order, "capture"]:
            return Answered(status=201, body=_capture(store, _get(store, "order", order)))
        case "POST", ["v2", "payments", "captures", capture, "refund"]:
            return Answered(status=201, body=_refund(store, capture, body))
        case "GET", ["v2", "payments", "refunds", refund]:
            return Answered(status=200, body=_get(store, "refund", refund))
        case "GET", ["v1", "reporting", "transactions"]:
            return Answered(status=200, body=_report(store, body))
        case _:
            raise PayPalRefusal("RESOURCE_NOT_FOUND", status=404, name="RESOURCE_NOT_FOUND")


def agree(store: TwinStore, order_id: str, funding: str = "good") -> None:
    """The payer approves; `funding` is what a capture will find: good, declined or pending."""
    order = _get(store, "order", order_id)
    if order["status"] not in ("CREATED", "PAYER_ACTION_REQUIRED"):
        raise PayPalRefusal("ORDER_ALREADY_CAPTURED" if order["status"] == "COMPLETED" else "ORDER_ALREADY_APPROVED")
    order |= {"status": "APPROVED", "_funding": funding}
    store.put("order", order)
    emit(store, "CHECKOUT.ORDER.APPROVED", "checkout-order", _shown(order))


def forget(store: TwinStore, order_id: str) -> None:
    """PayPal gives up an order that nobody captured."""
    order = _get(store, "order", order_id)
    if order["status"] == "COMPLETED":
        raise PayPalRefusal("ORDER_ALREADY_CAPTURED")
    store.put("order", {**order, "_is_gone": True})


def decide(store: TwinStore, order_id: str, *, is_taken: bool) -> None:
    """PayPal ends its review of a capture that is pending."""
    order = _get(store, "order", order_id)
    captures = order["purchase_units"][0]["payments"]["captures"]
    if not captures or captures[0]["status"] != "PENDING":
        raise PayPalRefusal("INVALID_RESOURCE_ID", status=404, name="RESOURCE_NOT_FOUND")
    captures[0]["status"] = "COMPLETED" if is_taken else "DECLINED"
    store.put("order", order)
    book_capture(store, captures[0])
    emit(store, f"PAYMENT.CAPTURE.{'COMPLETED' if is_taken else 'DENIED'}", "capture", captures[0])


def charges(store: TwinStore) -> list[dict[str, Any]]:
    """The money oracle: every order that took money, in hundredths or whole units, as the currency is counted."""
    taken = []
    for order in store.newest_first("order"):
        unit = order["purchase_units"][0]
        done = [each for each in unit["payments"]["captures"] if each["status"] != "DECLINED"]
        if done:
            log, _, operation = unit.get("custom_id", "").partition(" ")
            payment = operation.partition("/")[0]
            names = {"tillstone_log": log, "tillstone_payment": payment, "tillstone_operation": operation}
            refunds = [each for each in unit["payments"]["refunds"] if each["status"] == "COMPLETED"]
            taken.append(
                {
                    "id": order["id"],
                    "amount": sum(_minor(each["amount"]) for each in done),
                    "captured": sum(_minor(each["amount"]) for each in done),
                    "refunded": sum(_minor(each["amount"]) for each in refunds),
                    "currency": unit["amount"]["currency_code"].lower(),
                    "metadata": names,
                }
            )
    return taken


def _create(store: TwinStore, body: dict[str, Any], base: str) -> dict[str, Any]:
    units = body.get("purchase_units")
    if body.get("intent") != "CAPTURE" or not isinstance(units, list) or len(units) != 1:
        raise PayPalRefusal("INVALID_PARAMETER_VALUE", status=400, name="INVALID_REQUEST")
    unit = dict(units[0])
    _check_amount(unit.get("amount"))
    if len(unit.get("custom_id", "")) > 127 or len(unit.get("invoice_id", "")) > 127:
        raise PayPalRefusal("INVALID_STRING_MAX_LENGTH", status=400, name="INVALID_REQUEST")
    name = _new_id(store)
    is_wallet = "paypal" in body.get("payment_source", {})
    order = {
        "id": name,
        "intent": "CAPTURE",
        "status": "PAYER_ACTION_REQUIRED" if is_wallet else "CREATED",
        "create_time": _now(store),
        "purchase_units": [{"reference_id": "default", **unit, "payments": {"captures": [], "refunds": []}}],
        "links": [
            {"href": f"{base}/v2/checkout/orders/{name}", "rel": "self", "method": "GET"},
            {
                "href": f"{base}/checkoutnow?token={name}",
                "rel": "payer-action" if is_wallet else "approve",
                "method": "GET",
            },
        ],
    }
    store.put("order", order)
    return _shown(order)


def _capture(store: TwinStore, order: dict[str, Any]) -> dict[str, Any]:
    if order["status"] == "COMPLETED":
        raise PayPalRefusal("ORDER_ALREADY_CAPTURED")
    if order["status"] != "APPROVED":
        raise PayPalRefusal("ORDER_NOT_APPROVED")
    unit = order["purchase_units"][0]
    invoice = unit.get("invoice_id", "")
    if invoice and store.note(f"invoice:{invoice}") is not None:
        raise PayPalRefusal("DUPLICATE_INVOICE_ID")
    if order["_funding"] == "declined":
        raise PayPalRefusal("INSTRUMENT_DECLINED")
    capture = {
        "id": _new_id(store),
        "status": "PENDING" if order["_funding"] == "pending" else "COMPLETED",
        "amount": unit["amount"],
        "final_capture": True,
        "custom_id": unit.get("custom_id", ""),
        "invoice_id": invoice,
        "create_time": _now(store),
        "supplementary_data": {"related_ids": {"order_id": order["id"]}},
    }
    unit["payments"]["captures"].append(capture)
    order["status"] = "COMPLETED"
    store.put("order", order)
    store.keep_note(f"capture:{capture['id']}", {"order": order["id"]})
    store.keep_note(f"invoice:{invoice}", {"order": order["id"]})
    book_capture(store, capture)
    emit(store, f"PAYMENT.CAPTURE.{capture['status']}", "capture", capture)
    return _shown(order)


def _refund(store: TwinStore, capture_id: str, body: dict[str, Any]) -> dict[str, Any]:
    note = store.note(f"capture:{capture_id}")
    if note is None:
        raise PayPalRefusal("RESOURCE_NOT_FOUND", status=404, name="RESOURCE_NOT_FOUND")
    order = _get(store, "order", note["order"])
    payments = order["purchase_units"][0]["payments"]
    capture = payments["captures"][0]
    amount = body.get("amount", capture["amount"])
    _check_amount(amount)
    left = _minor(capture["amount"]) - sum(_minor(each["amount"]) for each in payments["refunds"])
    if capture["status"] == "PENDING":
        raise PayPalRefusal("REFUND_NOT_ALLOWED")
    if left == 0:
        raise PayPalRefusal("CAPTURE_FULLY_REFUNDED")
    if amount["currency_code"] != capture["amount"]["currency_code"]:
        raise PayPalRefusal("REFUND_CAPTURE_CURRENCY_MISMATCH")
    if _minor(amount) > left:
        raise PayPalRefusal("REFUND_AMOUNT_EXCEEDED")
    refund = {
        "id": _new_id(store),
        "status": "COMPLETED",
        "amount": amount,
        "custom_id": body.get("custom_id", ""),
        "invoice_id": body.get("invoice_id", ""),
        "create_time": _now(store),
    }
    payments["refunds"].append(refund)
    capture["status"] = "REFUNDED" if _minor(amount) == left else "PARTIALLY_REFUNDED"
    store.put("order", order)
    store.put("refund", refund)
    book_refund(store, refund, capture_id)
    emit(store, "PAYMENT.CAPTURE.REFUNDED", "refund", refund)
    return refund


def _report(store: TwinStore, query: Mapping[str, str]) -> dict[str, Any]:
    try:
        return listing(store, query)
    except ReportRefusal as refusal:
        raise PayPalRefusal(str(refusal), status=400, name=str(refusal)) from refusal


def _check_amount(amount: object) -> None:
    if not isinstance(amount, Mapping):
        raise PayPalRefusal("MISSING_REQUIRED_PARAMETER", status=400, name="INVALID_REQUEST")
    shape = _NO_DECIMALS if amount.get("currency_code") in WHOLE else _VALUE
    if not shape.match(str(amount.get("value"))):
        raise PayPalRefusal("DECIMAL_PRECISION")
    if _minor(amount) <= 0:
        raise PayPalRefusal("CANNOT_BE_ZERO_OR_NEGATIVE")


def _minor(amount: Mapping[str, Any]) -> int:
    return int(Decimal(amount["value"]) * (1 if amount["currency_code"] in WHOLE else 100))


def _get(store: TwinStore, kind: str, name: str) -> dict[str, Any]:
    found = store.get(kind, name)
    if found is None or found.get("_is_gone"):
        raise PayPalRefusal("INVALID_RESOURCE_ID", status=404, name="RESOURCE_NOT_FOUND")
    return found


def _shown(order: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in order.items() if not name.startswith("_")}


def _new_id(store: TwinStore) -> str:
    return store.new_id("x").removeprefix("x_").upper()[-17:]


def _now(store: TwinStore) -> str:
    return datetime.datetime.fromtimestamp(store.now_ms() // 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

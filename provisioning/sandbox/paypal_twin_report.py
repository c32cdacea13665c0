"""The PayPal twin's transaction search: each movement of money is one line, listed late, and what a test plants there.

A capture costs 2.49 % and 35, which a refund does not give back. Must never move money itself: whoever captures or
refunds books it here, in the same store transaction.

Source: developer.paypal.com/api/transaction-search/v1/search-get (parameters, lateness, statuses),
developer.paypal.com/docs/transaction-search/transaction-event-codes,
developer.paypal.com/docs/transaction-search (times such as 2026-09-21T22:00:45+0000; fees are negative).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, Literal

import msgspec

from provisioning.sandbox.stripe_twin_store import TwinStore

KIND: Final = "transaction"
LATE_MS: Final = 3 * 3_600_000
"""search-get: "a maximum of three hours"; here it is always that long, unless a test says otherwise."""
RANGE_DAYS_MAX: Final = 31
RESULTS_MAX: Final = 10_000
PAGE_SIZE_MAX: Final = 500
_LATE: Final = "report_late"
_SHARE: Final = Decimal("0.0249")
_FIXED: Final = Decimal("0.35")
_STATUS: Final = {"PENDING": "P", "COMPLETED": "S", "DECLINED": "D"}


class Plant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something in the listing that the shop's records do not say.

    Attributes:
        capture: whose line is meant.
        what: `gone`: it is listed no more. `doubled`: it is listed twice. `changed`: with another `value`, `fee` or
            `currency`. `disputed`: PayPal takes it back for the payer. `withdrawn`: to the shop's bank account.
    """

    capture: str
    what: Literal["gone", "doubled", "changed", "disputed", "withdrawn"]
    value: str | None = None
    fee: str | None = None
    currency: str | None = None


class Lateness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a transaction is not listed yet, from now on."""

    late_ms: int


class ReportRefusal(Exception):
    """A 400 of the listing, by its name."""


def fee_of(value: str) -> str:
    """What a capture costs, with the decimals of `value`."""
    unit, fixed = (Decimal("0.01"), _FIXED) if "." in value else (Decimal(1), 100 * _FIXED)
    return str((Decimal(value) * _SHARE + fixed).quantize(unit, ROUND_HALF_UP))


def book_capture(store: TwinStore, capture: Mapping[str, Any]) -> None:
    """A capture took money, or waits for a review; another time: how that ended."""
    amount = capture["amount"]
    line = store.get(KIND, _stored(capture["id"])) or _new(store, capture["id"], "T0006", amount["value"], capture)
    line |= {"transaction_status": _STATUS[capture["status"]], "transaction_updated_date": _written(store.now_ms())}
    if capture["status"] == "COMPLETED":
        line |= {"fee_amount": {**amount, "value": f"-{fee_of(amount['value'])}"}}
    store.put(KIND, line)


def book_refund(store: TwinStore, refund: Mapping[str, Any], capture_id: str) -> None:
    """Money went back to a payer."""
    line = _new(store, refund["id"], "T1107", f"-{refund['amount']['value']}", refund)
    store.put(KIND, {**line, "paypal_reference_id": capture_id, "paypal_reference_id_type": "TXN"})


def plant(store: TwinStore, planted: Plant) -> None:
    """Make the listing differ."""
    line = store.get(KIND, _stored(planted.capture))
    if line is None:
        raise ReportRefusal("INVALID_RESOURCE_ID")
    amount, other = line["transaction_amount"], _new_id(store)
    about = {"amount": amount, "custom_id": "", "invoice_id": ""}
    match planted.what:
        case "gone":
            store.put(KIND, {**line, "transaction_status": "D"})
        case "doubled":
            store.put(KIND, {**line, "id": _stored(other), "transaction_id": other})
        case "changed":
            store.put(KIND, _changed(line, planted))
        case "disputed":
            taken = _new(store, other, "T1106", f"-{amount['value']}", about)
            store.put(KIND, {**taken, "paypal_reference_id": planted.capture, "paypal_reference_id_type": "TXN"})
        case "withdrawn":
            store.put(KIND, _new(store, other, "T0400", f"-{amount['value']}", about))


def set_lateness(store: TwinStore, lateness: Lateness) -> None:
    """Let transactions be listed so late from now on."""
    store.keep_note(_LATE, {"late_ms": lateness.late_ms})


def listing(store: TwinStore, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of what is listed by now, oldest first. Raises ReportRefusal."""
    begins, ends = _time_of(query, "start_date"), _time_of(query, "end_date")
    if not begins <= ends <= begins + datetime.timedelta(days=RANGE_DAYS_MAX):
        raise ReportRefusal("INVALID_REQUEST")
    size, page = _number(query, "page_size", 100), _number(query, "page", 1)
    if not 1 <= size <= PAGE_SIZE_MAX or page < 1:
        raise ReportRefusal("INVALID_REQUEST")
    refreshed_ms = store.now_ms() - (store.note(_LATE) or {"late_ms": LATE_MS})["late_ms"]
    is_whole = query.get("balance_affecting_records_only", "Y") == "N"
    found = sorted(
        (
            line
            for line in store.newest_first(KIND)
            if (is_whole or line["transaction_status"] not in "PD")
            and begins <= _instant(line) <= ends
            and _instant(line).timestamp() * 1000 <= refreshed_ms
        ),
        key=lambda line: (line["transaction_initiation_date"], line["id"]),
    )
    if len(found) > RESULTS_MAX:
        raise ReportRefusal("RESULTSET_TOO_LARGE")
    part = found[(page - 1) * size : page * size]
    return {
        "transaction_details": [{"transaction_info": _shown(line)} for line in part],
        "account_number": "XYZTESTACCOUNT",
        "start_date": query["start_date"],
        "end_date": query["end_date"],
        "last_refreshed_datetime": _written(refreshed_ms),
        "page": page,
        "total_items": len(found),
        "total_pages": -(-len(found) // size),
    }


def _new(store: TwinStore, name: str, code: str, value: str, about: Mapping[str, Any]) -> dict[str, Any]:
    now = _written(store.now_ms())
    names = {"invoice_id": about.get("invoice_id", ""), "custom_field": about.get("custom_id", "")}
    return {
        "id": _stored(name),
        "transaction_id": name,
        "transaction_event_code": code,
        "transaction_initiation_date": now,
        "transaction_updated_date": now,
        "transaction_amount": {**about["amount"], "value": value},
        "transaction_status": "S",
        **{key: text for key, text in names.items() if text},
    }


def _changed(line: dict[str, Any], planted: Plant) -> dict[str, Any]:
    amount, fee = dict(line["transaction_amount"]), dict(line["fee_amount"])
    if planted.value is not None:
        amount["value"] = planted.value
    if planted.fee is not None:
        fee["value"] = f"-{planted.fee}"
    if planted.currency is not None:
        amount["currency_code"] = fee["currency_code"] = planted.currency
    return {**line, "transaction_amount": amount, "fee_amount": fee}


def _new_id(store: TwinStore) -> str:
    return store.new_id("x").removeprefix("x_").upper()[-17:]


def _stored(name: str) -> str:
    """A capture has its own name here, beside the capture itself."""
    return f"report-{name}"


def _shown(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "id"}


def _instant(line: Mapping[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(line["transaction_initiation_date"])


def _time_of(query: Mapping[str, str], name: str) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(query.get(name, ""))
    except ValueError:
        raise ReportRefusal("INVALID_REQUEST") from None
    if found.tzinfo is None or len(query[name]) < 20:
        raise ReportRefusal("INVALID_REQUEST")
    return found


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal():
        raise ReportRefusal("INVALID_REQUEST")
    return int(text)


def _written(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms // 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")

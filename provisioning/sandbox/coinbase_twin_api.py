"""Checkouts and refunds of the Coinbase twin, and its money oracle. Changes only the store.

Source, per rule: docs.cdp.coinbase.com/api-reference/business-api/rest-api/checkouts (introduction: statuses;
create-checkout: bounds of every member; list-checkouts; deactivate-checkout: only ACTIVE; refund-checkout: only
COMPLETED or PARTIALLY_REFUNDED, never above what is left).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, Literal

from provisioning.sandbox.coinbase_twin_events import emit
from provisioning.sandbox.stripe_twin_store import Due, TwinStore
from provisioning.sandbox.twin_rest import Answered, TwinRefusal

CONFIRM: Final = "confirm"
GIVE_BACK: Final = "give back"
USDC_PER: Final = {
    "USDC": Decimal(1),
    "USD": Decimal(1),
    "EUR": Decimal("1.08"),
    "GBP": Decimal("1.27"),
    "SGD": Decimal("0.74"),
}
"""Assumed: the pages give no rates, and name these currencies."""
HOUR_MS: Final = 3_600_000
_AMOUNT: Final = re.compile(r"\A\d+(?:\.\d{1,2})?\Z")
_CENT: Final = Decimal("0.01")
_MOST: Final = Decimal(100_000_000)
_FEE: Final = Decimal("0.01")
Paying = Literal["good", "fails", "short", "much", "stuck", "late"]
"""How a customer pays. `late`: he had begun when the checkout ended; what comes of that is assumed, no page says it."""


class CoinbaseRefusal(TwinRefusal):
    """A typed error."""

    def __init__(self, error: str, *, status: int = 400) -> None:
        said = {"errorType": error, "errorMessage": f"refused: {error}", "correlationId": "0"}
        super().__init__(Answered(status=status, body=said))


def route(store: TwinStore, method: str, path: str, query: Mapping[str, Any], body: Any, base: str) -> Answered:
    """Do what the API does. Raises CoinbaseRefusal."""
    match method, path.strip("/").split("/"):
        case "POST", ["api", "v1", "checkouts"]:
            return Answered(status=201, body=_shown(_create(store, body, base)))
        case "GET", ["api", "v1", "checkouts"]:
            return Answered(status=200, body=_list(store, query))
        case "GET", ["api", "v1", "checkouts", name]:
            return Answered(status=200, body=_shown(_get(store, name)))
        case "POST", ["api", "v1", "checkouts", name, "deactivate"]:
            return Answered(status=200, body=_shown(_deactivate(store, _get(store, name))))
        case "POST", ["api", "v1", "checkouts", name, "refund"]:
            return Answered(status=200, body=_refund(store, _get(store, name), body))
        case _:
            raise CoinbaseRefusal("not_found", status=404)


def pay(store: TwinStore, name: str, how: Paying = "good", confirm_ms: int = 0) -> None:
    """A customer pays; the chain confirms it so much later. Raises CoinbaseRefusal."""
    checkout = _get(store, name)
    if checkout["status"] != "ACTIVE" and (how != "late" or checkout["status"] not in ("EXPIRED", "DEACTIVATED")):
        raise CoinbaseRefusal("checkout_not_active")  # single-use, and over is over
    _change(store, checkout, status="PROCESSING")
    if how != "stuck":
        store.schedule(Due(at_ms=store.now_ms() + confirm_ms, what=CONFIRM, subject=f"{name} {how}"))
    happen(store)


def happen(store: TwinStore) -> None:
    """Let everything happen whose time has come; call it inside a transaction."""
    for due in store.take_due(CONFIRM, GIVE_BACK):
        name, what = due.subject.split()
        checkout = _get(store, name)
        if due.what == CONFIRM:
            _confirm(store, checkout, what)
        else:
            _give_back(store, checkout, what)
    for checkout in store.newest_first("checkout"):
        if checkout["status"] == "ACTIVE" and _ms(checkout["expiresAt"]) <= store.now_ms():
            _change(store, checkout, status="EXPIRED")
            emit(store, "checkout.payment.expired", _shown(checkout))


def charges(store: TwinStore) -> list[dict[str, Any]]:
    """The money oracle: every checkout that took money, in hundredths of what was asked for."""
    taken = []
    for checkout in store.newest_first("checkout"):
        if "settlement" in checkout:
            share = Decimal(checkout["settlement"]["totalAmount"]) / Decimal(checkout["amount"])
            asked = Decimal(checkout.get("fiatAmount") or checkout["amount"])
            back = sum(
                (Decimal(each["_asked"]) for each in checkout["refunds"] if each["status"] != "FAILED"), Decimal()
            )
            got = int((asked * share * 100).to_integral_value())
            taken.append(
                {
                    "id": checkout["id"],
                    "amount": got,
                    "captured": got,
                    "refunded": int(back * 100),
                    "currency": (checkout.get("fiatCurrency") or checkout["currency"]).lower(),
                    "metadata": checkout["metadata"],
                }
            )
    return taken


def _create(store: TwinStore, body: dict[str, Any], base: str) -> dict[str, Any]:
    amount, currency = _amount(body.get("amount")), body.get("currency")
    metadata = body.get("metadata") or {}
    expires = body.get("expiresAt") or _time(store.now_ms() + HOUR_MS)
    is_fine = (
        currency in USDC_PER
        and _CENT <= amount <= _MOST
        and len(body.get("description", "")) <= 500
        and len(metadata) <= 20
        and all(isinstance(value, str) and len(value) <= 100 for value in metadata.values())
        and _ms(expires) > store.now_ms()
    )
    if not is_fine:
        raise CoinbaseRefusal("invalid_request")
    name = store.new_id("x").removeprefix("x_")
    checkout = {
        "id": name,
        "url": f"{base}/payment-links/pl_{name}",
        "amount": _text(amount * USDC_PER[str(currency)]),
        "currency": "USDC",
        "network": "base",
        "address": "0x742d35Cc6634C0532925a3b844Bc454e4438f44e",
        "tokenAddress": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        "status": "ACTIVE",
        "description": body.get("description", ""),
        "metadata": metadata,
        "expiresAt": expires,
        "createdAt": _time(store.now_ms()),
        "refunds": [],
    }
    if currency != "USDC":
        checkout |= {"fiatAmount": _text(amount), "fiatCurrency": currency}
    _change(store, checkout)
    return checkout


def _list(store: TwinStore, query: Mapping[str, Any]) -> dict[str, Any]:
    size, after = int(query.get("pageSize", "20")), query.get("pageToken", "")
    if not 1 <= size <= 100:
        raise CoinbaseRefusal("invalid_request")
    since_ms = _ms(query["startTime"]) if "startTime" in query else 0
    wanted = query.get("status")
    found = [
        _shown(each)
        for each in store.newest_first("checkout")
        if _ms(each["createdAt"]) >= since_ms and wanted in (None, each["status"])
    ]
    begin = next((at + 1 for at, each in enumerate(found) if each["id"] == after), 0)
    page = found[begin : begin + size]
    more = {"nextPageToken": page[-1]["id"]} if len(found) > begin + size else {}
    return {"checkouts": page, **more}


def _deactivate(store: TwinStore, checkout: dict[str, Any]) -> dict[str, Any]:
    if checkout["status"] != "ACTIVE":
        raise CoinbaseRefusal("invalid_request")
    return _change(store, checkout, status="DEACTIVATED")


def _refund(store: TwinStore, checkout: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    if checkout["status"] not in ("COMPLETED", "PARTIALLY_REFUNDED"):
        raise CoinbaseRefusal("invalid_request")
    paid_in = checkout.get("fiatCurrency") or checkout["currency"]
    amount, currency = _amount(body.get("amount")), body.get("currency") or paid_in
    left = Decimal(checkout.get("fiatAmount") or checkout["amount"]) - _given(checkout)
    if currency != paid_in or len(body.get("reason") or "") > 500 or not 0 < amount <= left:
        raise CoinbaseRefusal("invalid_request")
    rate = USDC_PER[paid_in]
    refund = {
        "id": store.new_id("x").removeprefix("x_"),
        "checkoutId": checkout["id"],
        "amount": _text(amount * rate),
        "currency": "USDC",
        "status": "PENDING",
        "reason": body.get("reason", ""),
        "createdAt": _time(store.now_ms()),
        "_asked": _text(amount),
    }
    if paid_in != "USDC":
        refund |= {"fiatAmount": _text(amount), "fiatCurrency": paid_in, "exchangeRate": str(rate)}
    checkout["refunds"].append(refund)
    given = _given(checkout)
    whole = given == Decimal(checkout.get("fiatAmount") or checkout["amount"])
    _change(store, checkout, status="REFUNDED" if whole else "PARTIALLY_REFUNDED", refundedAmount=_text(given * rate))
    note = store.note("refunds") or {}
    at_ms = store.now_ms() + int(note.get("after_ms", 0))
    store.schedule(Due(at_ms=at_ms, what=GIVE_BACK, subject=f"{checkout['id']} {refund['id']}"))
    happen(store)
    now = _get(store, checkout["id"])
    (refund,) = (each for each in now["refunds"] if each["id"] == refund["id"])
    return {"checkout": _shown(now), "refund": _public(refund)}


def _confirm(store: TwinStore, checkout: dict[str, Any], how: str) -> None:
    if how == "fails":
        _change(store, checkout, status="FAILED")
        emit(store, "checkout.payment.failed", _shown(checkout))
        return
    share = {"short": Decimal("0.5"), "much": Decimal(2)}.get(how, Decimal(1))
    total = Decimal(checkout["amount"]) * share
    fee = (total * _FEE).quantize(_CENT, ROUND_HALF_UP)
    settlement = {
        "totalAmount": _text(total),
        "feeAmount": _text(fee),
        "netAmount": _text(total - fee),
        "currency": "USDC",
    }
    _change(store, checkout, status="COMPLETED", settlement=settlement, transactionHash=f"0x{checkout['id']:0<64}")
    emit(store, "checkout.payment.success", _shown(checkout))


def _give_back(store: TwinStore, checkout: dict[str, Any], name: str) -> None:
    fails = bool((store.note("refunds") or {}).get("fail"))
    for refund in checkout["refunds"]:
        if refund["id"] == name:
            refund |= {"status": "FAILED"} if fails else {"status": "COMPLETED", "completedAt": _time(store.now_ms())}
    if fails:
        checkout["status"] = "PARTIALLY_REFUNDED" if _given(checkout) else "COMPLETED"
    _change(store, checkout)
    emit(store, "checkout.refund.failed" if fails else "checkout.refund.success", _shown(checkout))


def _given(checkout: Mapping[str, Any]) -> Decimal:
    return sum((Decimal(each["_asked"]) for each in checkout["refunds"] if each["status"] != "FAILED"), Decimal())


def _amount(text: object) -> Decimal:
    if not isinstance(text, str) or not _AMOUNT.match(text):
        raise CoinbaseRefusal("invalid_request")
    return Decimal(text)


def _change(store: TwinStore, checkout: dict[str, Any], **members: Any) -> dict[str, Any]:
    checkout |= {**members, "updatedAt": _time(store.now_ms())}
    store.put("checkout", checkout)
    return checkout


def _get(store: TwinStore, name: str) -> dict[str, Any]:
    found = store.get("checkout", name)
    if found is None:
        raise CoinbaseRefusal("not_found", status=404)
    return found


def _shown(checkout: dict[str, Any]) -> dict[str, Any]:
    return {**checkout, "refunds": [_public(each) for each in checkout["refunds"]]}


def _public(refund: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in refund.items() if not name.startswith("_")}


def _text(amount: Decimal) -> str:
    return str(amount.quantize(_CENT, ROUND_HALF_UP))


def _ms(text: object) -> int:
    try:
        return int(datetime.datetime.fromisoformat(str(text)).timestamp() * 1000)
    except ValueError:
        raise CoinbaseRefusal("invalid_request") from None


def _time(instant_ms: int) -> str:
    return datetime.datetime.fromtimestamp(instant_ms // 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""The Stripe twin's balance: one transaction for every movement of money, with its fee, and what a test plants there.

A charge costs 1.5 % and 25, a dispute 1,500, refunds nothing, and give no fee back; funds are available two days later.
Must never move money itself: whoever charges or refunds books it here, in the same store transaction.

Source: docs.stripe.com/api/balance_transactions, docs.stripe.com/reports/balance-transaction-types,
docs.stripe.com/disputes (a dispute debits amount and fee), docs.stripe.com/refunds (fees are not returned).
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from provisioning.sandbox.stripe_twin_form import Answered, InvalidRequest, Parameters, array_of
from provisioning.sandbox.stripe_twin_lists import page_of
from provisioning.sandbox.stripe_twin_store import TwinStore

KIND: Final = "balance_transaction"
FEE_BASIS_POINTS: Final = 150
FEE_FIXED: Final = 25
DISPUTE_FEE: Final = 1_500
_AVAILABLE_AFTER_S: Final = 2 * 24 * 3_600


class Plant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something in the balance that the shop's records do not say.

    Attributes:
        payment: the PaymentIntent whose charge is meant.
        what: `gone`: it is listed no more. `doubled`: it is listed twice. `changed`: with another `amount`, `fee` or
            `currency`; `net` follows unless it is given. `late`: it is listed `late_ms` after it came to be, and from
            then on bears that time. `disputed`: the cardholder's bank takes it back. `converted`: it was settled in
            `currency`, at `rate_percent`; with `asked`, after another amount was charged.
    """

    payment: str
    what: Literal["gone", "doubled", "changed", "late", "disputed", "converted"]
    amount: int | None = None
    fee: int | None = None
    net: int | None = None
    currency: str | None = None
    late_ms: int = 0
    rate_percent: int = 100
    asked: int | None = None


def fee_of(amount: int) -> int:
    """What a charge costs, rounded half up."""
    return (amount * FEE_BASIS_POINTS + 5_000) // 10_000 + FEE_FIXED


def book_charge(store: TwinStore, payment: dict[str, Any]) -> None:
    """A payment took its money: a charge with the metadata that the payment has now."""
    charge = {
        "id": payment["latest_charge"],
        "object": "charge",
        "amount": payment["amount_received"],
        "currency": payment["currency"],
        "metadata": payment["metadata"],
        "payment_intent": payment["id"],
    }
    _book(store, "charge", charge, payment["amount_received"], fee_of(payment["amount_received"]))


def book_refund(store: TwinStore, refund: dict[str, Any]) -> None:
    """Money went back to a card."""
    _book(store, "refund", refund, -refund["amount"], 0)


def plant(store: TwinStore, planted: Plant) -> None:
    """Make the balance differ. Raises InvalidRequest for a payment that has no charge."""
    line = next((each for each in store.newest_first(KIND) if _is_charge_of(each, planted.payment)), None)
    if line is None:
        raise InvalidRequest(f"No charge of '{planted.payment}'", code="resource_missing", status=404)
    match planted.what:
        case "gone":
            store.put(KIND, {**line, "is_hidden": True})
        case "doubled":
            store.put(KIND, {**line, "id": store.new_id("txn")})
        case "changed":
            store.put(KIND, _changed(line, planted))
        case "converted":
            store.put(KIND, _converted(line, planted))
        case "late":
            store.put(KIND, {**line, "is_hidden": True})
            later = line["created"] + planted.late_ms // 1000
            store.put(KIND, {**line, "id": store.new_id("txn"), "created": later})
        case "disputed":
            dispute = {
                "id": store.new_id("du"),
                "object": "dispute",
                "metadata": {},
                "payment_intent": planted.payment,
            }
            _book(
                store, "adjustment", {**dispute, "currency": line["currency"]}, -line["amount"], DISPUTE_FEE, "dispute"
            )


def listing(store: TwinStore, parameters: Parameters) -> Answered:
    """A page of what is there by now, newest first; the source is a name, or the object with `expand`."""
    is_expanded = "data.source" in array_of(parameters, "expand")
    now_s = store.now_ms() // 1000
    shown = [
        _shown(each, now_s, is_expanded=is_expanded)
        for each in sorted(store.newest_first(KIND), key=lambda line: -int(line["created"]))
        if not each.get("is_hidden") and each["created"] <= now_s
    ]
    plain = {name: value for name, value in parameters.items() if not name.startswith("expand[")}
    return page_of(shown, KIND, plain)


def _book(
    store: TwinStore, kind: str, source: dict[str, Any], amount: int, fee: int, category: str | None = None
) -> None:
    created = store.now_ms() // 1000
    line = {
        "id": store.new_id("txn"),
        "object": KIND,
        "amount": amount,
        "available_on": created + _AVAILABLE_AFTER_S,
        "created": created,
        "currency": source["currency"],
        "exchange_rate": None,
        "fee": fee,
        "net": amount - fee,
        "reporting_category": category or kind,
        "source": source,
        "type": kind,
    }
    store.put(KIND, line)


def _changed(line: dict[str, Any], planted: Plant) -> dict[str, Any]:
    given = {name: getattr(planted, name) for name in ("amount", "fee", "currency")}
    changed = {**line, **{name: value for name, value in given.items() if value is not None}}
    net = changed["amount"] - changed["fee"] if planted.net is None else planted.net
    return {**changed, "net": net}


def _converted(line: dict[str, Any], planted: Plant) -> dict[str, Any]:
    amount, fee = (line[name] * planted.rate_percent // 100 for name in ("amount", "fee"))
    changed = {"amount": amount, "fee": fee, "net": amount - fee, "currency": planted.currency}
    asked = line["source"]["amount"] if planted.asked is None else planted.asked
    source = {**line["source"], "amount": asked, "amount_captured": asked}
    return {**line, **changed, "source": source, "exchange_rate": planted.rate_percent / 100}


def _is_charge_of(line: dict[str, Any], payment: str) -> bool:
    return bool(line["type"] == "charge" and line["source"]["payment_intent"] == payment)


def _shown(line: dict[str, Any], now_s: int, *, is_expanded: bool) -> dict[str, Any]:
    status = "available" if line["available_on"] <= now_s else "pending"
    return {**line, "status": status, "source": line["source"] if is_expanded else line["source"]["id"]}

"""What the Stripe twin shows of a payment's charge: what the card's bank was asked for, and what it approved.

A payment names its charge; whoever asks with `expand[]` is shown it in its place.

Source: docs.stripe.com/expand, docs.stripe.com/api/charges/object, docs.stripe.com/payments/partial-authorization.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from provisioning.sandbox.stripe_twin_form import Answered, InvalidRequest, Parameters, array_of
from provisioning.sandbox.stripe_twin_store import TwinStore

CHARGE: Final = "charge"
_OF_ONE: Final = "latest_charge"
_OF_LIST: Final = "data.latest_charge"


def charge_of(payment: dict[str, Any], requested: int, *, is_partial: bool) -> dict[str, Any]:
    """The charge of a payment that its card's bank approved, when `requested` was asked for."""
    status = "not_requested"
    if is_partial:
        status = "partially_authorized" if payment["amount"] < requested else "fully_authorized"
    card = {
        "amount_authorized": payment["amount"],
        "amount_requested": requested,
        "partial_authorization": {"status": status},
    }
    return {
        "id": payment["latest_charge"],
        "object": "charge",
        "amount": payment["amount"],
        "created": payment["created"],
        "payment_method_details": {"card": card, "type": "card"},
    }


def expanded(store: TwinStore, answered: Answered, parameters: Parameters) -> Answered:
    """The answer with what `expand[]` asks for."""
    for asked in array_of(parameters, "expand"):
        if asked == _OF_ONE and answered.status == 200:
            answered = replace(answered, body=_shown(store, answered.body))
        elif asked == _OF_LIST and answered.status == 200:
            data = [_shown(store, payment) for payment in answered.body["data"]]
            answered = replace(answered, body={**answered.body, "data": data})
        elif asked not in (_OF_ONE, _OF_LIST):
            raise InvalidRequest(f"This property cannot be expanded ({asked}).", parameter="expand")
    return answered


def _shown(store: TwinStore, payment: dict[str, Any]) -> dict[str, Any]:
    charge = None if payment["latest_charge"] is None else store.get(CHARGE, payment["latest_charge"])
    if charge is None:
        return payment
    return {**payment, "latest_charge": {**charge, "captured": payment["status"] == "succeeded"}}

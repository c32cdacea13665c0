"""Which of the Stripe twin's functions answers which request: the table of what it can do."""

from __future__ import annotations

from provisioning.sandbox import stripe_twin_api as api
from provisioning.sandbox import stripe_twin_lists as lists
from provisioning.sandbox.stripe_twin_form import Answered, InvalidRequest, Parameters
from provisioning.sandbox.stripe_twin_store import TwinStore


def route(store: TwinStore, method: str, path: str, parameters: Parameters) -> Answered:
    """Execute one request. Raises InvalidRequest, with nothing done."""
    match method, path.strip("/").split("/")[1:]:
        case "POST", ["payment_intents"]:
            return api.create_payment(store, parameters)
        case "POST", ["payment_intents", identifier, "confirm"]:
            return api.confirm_payment(store, identifier, parameters)
        case "POST", ["payment_intents", identifier, "capture"]:
            return api.capture_payment(store, identifier, parameters)
        case "POST", ["payment_intents", identifier, "cancel"]:
            return api.cancel_payment(store, identifier, parameters)
        case "GET", ["payment_intents"]:
            return lists.listing(store, "payment_intent", parameters)
        case "GET", ["payment_intents", identifier]:
            return lists.retrieve(store, "payment_intent", identifier)
        case "POST", ["refunds"]:
            return api.create_refund(store, parameters)
        case "GET", ["refunds"]:
            return lists.listing(store, "refund", parameters)
        case "GET", ["refunds", identifier]:
            return lists.retrieve(store, "refund", identifier)
        case _:
            raise InvalidRequest(f"Unrecognized request URL ({method}: {path}).", status=404)

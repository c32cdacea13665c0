"""Which of the Stripe twin's functions answers which request: the table of what it can do."""

from __future__ import annotations

from provisioning.sandbox import stripe_twin_api as api
from provisioning.sandbox import stripe_twin_balance as balance
from provisioning.sandbox import stripe_twin_lists as lists
from provisioning.sandbox import stripe_twin_readers as readers
from provisioning.sandbox.stripe_twin_charges import expanded
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
            return expanded(store, lists.listing(store, "payment_intent", parameters), parameters)
        case "GET", ["payment_intents", "search"]:
            return lists.search(store, "payment_intent", parameters)
        case "GET", ["payment_intents", identifier]:
            return expanded(store, lists.retrieve(store, "payment_intent", identifier), parameters)
        case "POST", ["refunds"]:
            return api.create_refund(store, parameters)
        case "GET", ["refunds"]:
            return lists.listing(store, "refund", parameters)
        case "GET", ["refunds", identifier]:
            return lists.retrieve(store, "refund", identifier)
        case "GET", ["balance_transactions"]:
            return balance.listing(store, parameters)
        case "GET", ["account"]:
            return Answered(status=200, body={"id": store.account_id(), "object": "account"})
        case "GET", ["events"]:
            return lists.listing(store, "event", parameters)
        case "GET", ["events", identifier]:
            return lists.retrieve(store, "event", identifier)
        case _, ["terminal" | "test_helpers", *_]:
            return _terminal(store, method, path, parameters)
        case _:
            raise _unrecognized(method, path)


def run_due(store: TwinStore) -> None:
    """Let everything happen whose time has come; call it inside a transaction."""
    while due := store.take_due(api.LAPSE, readers.PRESENT, readers.AUTHORISE):
        for each in due:
            if each.what == api.LAPSE:
                api.lapse(store, each.subject)
            else:
                readers.happen(store, each)


def _terminal(store: TwinStore, method: str, path: str, parameters: Parameters) -> Answered:
    match method, path.strip("/").split("/")[1:]:
        case "POST", ["terminal", "readers"]:
            return readers.create(store, parameters)
        case "GET", ["terminal", "readers"]:
            return lists.listing(store, readers.KIND, parameters)
        case "GET", ["terminal", "readers", identifier]:
            return lists.retrieve(store, readers.KIND, identifier)
        case "POST", ["terminal", "readers", identifier, "process_payment_intent"]:
            return readers.process_payment(store, identifier, parameters)
        case "POST", ["terminal", "readers", identifier, "cancel_action"]:
            return readers.cancel_action(store, identifier, parameters)
        case "POST", ["terminal", "readers", identifier, "set_reader_display"]:
            return readers.show_cart(store, identifier, parameters)
        case "POST", ["test_helpers", "terminal", "readers", identifier, "present_payment_method"]:
            return readers.present_payment_method(store, identifier, parameters)
        case _:
            raise _unrecognized(method, path)


def _unrecognized(method: str, path: str) -> InvalidRequest:
    return InvalidRequest(f"Unrecognized request URL ({method}: {path}).", status=404)

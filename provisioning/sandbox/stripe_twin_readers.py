"""Card readers at the Stripe twin: server-driven, one action at a time, with a customer who behaves as told.

A payment is charged by `stripe_twin_api.charge_present` alone; here is decided when, and what the reader says of it.

Source: docs.stripe.com/terminal/payments/collect-card-payment?terminal-sdk-platform=server-driven ("Handle errors"),
docs.stripe.com/api/terminal/readers/object, docs.stripe.com/terminal/references/testing.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from provisioning.sandbox.stripe_twin_api import charge_present, payment_of
from provisioning.sandbox.stripe_twin_events import emit
from provisioning.sandbox.stripe_twin_form import (
    Answered,
    InvalidRequest,
    Parameters,
    metadata_of,
    refusal,
    refuse_unknown,
    required,
)
from provisioning.sandbox.stripe_twin_store import Due, TwinStore

PRESENT: Final = "present"
AUTHORISE: Final = "authorise"
KIND: Final = "terminal.reader"

CARDS: Final = {
    "4242424242424242": "pm_card_visa",
    "4000000000000002": "pm_card_visa_chargeDeclined",
    "4000000000009995": "pm_card_visa_chargeDeclinedInsufficientFunds",
    "4000000000009987": "pm_card_visa_chargeDeclinedLostCard",
    "4000000000009979": "pm_card_visa_chargeDeclinedStolenCard",
    "4000000000000069": "pm_card_chargeDeclinedExpiredCard",
    "4000000000000119": "pm_card_chargeDeclinedProcessingError",
}
"""Simulated test cards of docs.stripe.com/terminal/references/testing and the payment method that behaves alike."""

_BUSY: Final = "Reader is currently busy processing another request."
_OFFLINE: Final = "Reader is currently offline, please ensure the reader is powered on and connected to the internet."
_TIMEOUT: Final = "There was a timeout when sending this command to the reader."
_STATE: Final = "Payment intent must be in the requires_payment_method state to be processed by a reader."
_PROCESS: Final = frozenset(
    {
        "payment_intent",
        "process_config[enable_customer_cancellation]",
        "process_config[skip_tipping]",
        "process_config[tipping][amount_eligible]",
    }
)


class Customer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens at a reader by itself; the twin's control door sets it, no API shows it.

    Attributes:
        does: manual waits for the test helper, as Stripe's simulated readers do. approve and decline tap a card.
            walk_away never does. cancel presses the reader's button. lose_line taps, and the reader's line breaks
            before it hears the answer. vanish taps, and the reader never says anything again.
        after_ms: how long the customer takes, in the twin's time.
        authorise_ms: how long the bank takes once the card was seen; nothing can be cancelled meanwhile.
        tip: chosen on the reader, in the smallest unit, unless the tipping screen is skipped.
        card: the test card that is presented; `decline` presents one without funds.
        reaches: whether commands come through: yes, no (offline), or unheard (executed, but the reader's
            acknowledgement is lost: terminal_reader_timeout).
    """

    does: Literal["manual", "approve", "decline", "walk_away", "cancel", "lose_line", "vanish"] = "manual"
    after_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    authorise_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    tip: Annotated[int, Meta(ge=0)] = 0
    card: str = "4242424242424242"
    reaches: Literal["yes", "no", "unheard"] = "yes"


def create(store: TwinStore, parameters: Parameters) -> Answered:
    """Register a simulated reader; any other code belongs to a device that is not here."""
    refuse_unknown(parameters, frozenset({"registration_code", "label", "location"}), ("metadata[",))
    if required(parameters, "registration_code") not in ("simulated-wpe", "simulated-s700"):
        raise InvalidRequest("No such reader registration code.", parameter="registration_code")
    reader: dict[str, Any] = {
        "id": store.new_id("tmr"),
        "object": KIND,
        "action": None,
        "device_sw_version": None,
        "device_type": "simulated_wisepos_e",
        "ip_address": "0.0.0.0",  # noqa: S104 - what the page's own example says
        "label": parameters.get("label", "simulated"),
        "last_seen_at": store.now_ms(),
        "livemode": False,
        "location": parameters.get("location"),
        "metadata": metadata_of(parameters),
        "serial_number": store.new_id("serial"),
        "status": "online",
    }
    store.put(KIND, reader)
    return Answered(status=200, body=reader)


def process_payment(store: TwinStore, identifier: str, parameters: Parameters) -> Answered:
    """Hand a payment over; one that no card was shown for yet is replaced."""
    refuse_unknown(parameters, _PROCESS)
    payment = payment_of(store, required(parameters, "payment_intent"))
    reader, customer = _reachable(store, identifier)
    if payment["status"] != "requires_payment_method":
        raise InvalidRequest(_STATE, code="intent_invalid_state")
    if "card_present" not in payment["payment_method_types"]:
        raise InvalidRequest("This PaymentIntent does not take card_present.", parameter="payment_intent")
    config = {
        name: parameters.get(f"process_config[{name}]") == "true"
        for name in ("enable_customer_cancellation", "skip_tipping")
    }
    reader["action"] = {
        "type": "process_payment_intent",
        "process_payment_intent": {"payment_intent": payment["id"], "process_config": config},
        "status": "in_progress",
        "failure_code": None,
        "failure_message": None,
    }
    store.put(KIND, reader)
    if customer.does not in ("manual", "walk_away"):
        subject = f"{reader['id']} {payment['id']}"
        store.schedule(Due(at_ms=store.now_ms() + customer.after_ms, what=PRESENT, subject=subject))
    if customer.reaches == "unheard":
        return refusal(_TIMEOUT, code="terminal_reader_timeout")
    return Answered(status=200, body=reader)


def cancel_action(store: TwinStore, identifier: str, parameters: Parameters) -> Answered:
    """Reset the reader; no webhook tells of it."""
    refuse_unknown(parameters, frozenset())
    reader, _ = _reachable(store, identifier)
    store.put(KIND, {**reader, "action": None})
    return Answered(status=200, body={**reader, "action": None})


def show_cart(store: TwinStore, identifier: str, parameters: Parameters) -> Answered:
    """Set the reader's display; it is an action that is over at once."""
    refuse_unknown(parameters, frozenset({"type"}), ("cart[",))
    reader, _ = _reachable(store, identifier)
    if reader["action"] is not None and reader["action"]["status"] == "in_progress":
        raise InvalidRequest(_BUSY, code="terminal_reader_busy")
    action = {"type": "set_reader_display", "status": "succeeded", "failure_code": None, "failure_message": None}
    store.put(KIND, {**reader, "action": action})
    return Answered(status=200, body={**reader, "action": action})


def present_payment_method(store: TwinStore, identifier: str, parameters: Parameters) -> Answered:
    """The test helper: a card is shown to the reader."""
    refuse_unknown(parameters, frozenset({"type", "amount_tip"}), ("card_present[", "card["))
    reader, customer = _reachable(store, identifier)
    action = reader["action"]
    if action is None or action["status"] != "in_progress":
        raise InvalidRequest("The reader does not wait for a payment method.", parameter="reader")
    number = parameters.get("card_present[number]", "4242424242424242")
    if number not in CARDS:
        raise InvalidRequest("No such test card.", parameter="card_present[number]")
    shown = msgspec.structs.replace(customer, does="approve", card=number, tip=int(parameters.get("amount_tip", "0")))
    _present(store, reader, shown)
    return Answered(status=200, body=_reader(store, identifier))


def happen(store: TwinStore, due: Due) -> None:
    """A card that was going to be shown is shown, or a bank that was asked answers; unless the action is over."""
    identifier, payment_id = due.subject.split()
    reader = _reader(store, identifier)
    action = reader["action"]
    if action is None or action["status"] != "in_progress" or action[action["type"]]["payment_intent"] != payment_id:
        return
    if due.what == PRESENT:
        _present(store, reader, customer_of(store, identifier))
    else:
        shown = msgspec.convert(store.note(f"authorising:{identifier}"), Customer)
        store.drop_note(f"authorising:{identifier}")
        _authorised(store, reader, shown)


def customer_of(store: TwinStore, identifier: str) -> Customer:
    """Who stands at the reader."""
    note = store.note(f"customer:{identifier}")
    return Customer() if note is None else msgspec.convert(note, Customer)


def set_customer(store: TwinStore, identifier: str, customer: Customer) -> None:
    """Who stands at the reader from now on. Raises InvalidRequest for an unknown reader or card."""
    reader = _reader(store, identifier)
    if customer.card not in CARDS:
        raise InvalidRequest("No such test card.", parameter="card")
    store.keep_note(f"customer:{identifier}", msgspec.to_builtins(customer))
    status = "offline" if customer.reaches == "no" else "online"
    if reader["status"] != status:
        store.put(KIND, {**reader, "status": status, "last_seen_at": store.now_ms()})


def _present(store: TwinStore, reader: dict[str, Any], customer: Customer) -> None:
    action = reader["action"]
    if customer.does == "cancel":
        message = "This action could not be completed due to an error on the card reader."
        if action["process_payment_intent"]["process_config"]["enable_customer_cancellation"]:
            _end(store, reader, code="customer_canceled", message=message)
        return  # without the setting the screen has no such button
    if customer.authorise_ms == 0:
        _authorised(store, reader, customer)
        return
    store.keep_note(f"authorising:{reader['id']}", msgspec.to_builtins(customer))
    subject = f"{reader['id']} {action['process_payment_intent']['payment_intent']}"
    store.schedule(Due(at_ms=store.now_ms() + customer.authorise_ms, what=AUTHORISE, subject=subject))


def _authorised(store: TwinStore, reader: dict[str, Any], customer: Customer) -> None:
    """The bank answered; what the reader then says may be less than the truth."""
    handed = reader["action"]["process_payment_intent"]
    payment = payment_of(store, handed["payment_intent"])
    if payment["status"] != "requires_payment_method":
        _end(store, reader, code="intent_invalid_state", message=_STATE)  # cancelled while the card was on its way
        return
    card = "4000000000009995" if customer.does == "decline" else customer.card
    tip = None if handed["process_config"]["skip_tipping"] else customer.tip
    failure = charge_present(store, payment, method=CARDS[card], tip=tip)
    match customer.does:
        case "vanish":
            pass
        case "lose_line":
            _end(store, reader, code="connection_error", message="Could not connect to Stripe.")
        case _ if failure is not None:
            _end(store, reader, code=failure["code"], message=failure["message"])
        case _:
            _end(store, reader)


def _end(store: TwinStore, reader: dict[str, Any], *, code: str | None = None, message: str | None = None) -> None:
    status = "succeeded" if code is None else "failed"
    action = {**reader["action"], "status": status, "failure_code": code, "failure_message": message}
    ended = {**reader, "action": action}
    store.put(KIND, ended)
    emit(store, f"terminal.reader.action_{status}", ended)


def _reachable(store: TwinStore, identifier: str) -> tuple[dict[str, Any], Customer]:
    """A reader that takes a command now, and its customer."""
    reader = _reader(store, identifier)
    customer = customer_of(store, identifier)
    if customer.reaches == "no":
        raise InvalidRequest(_OFFLINE, code="terminal_reader_offline")
    if store.note(f"authorising:{identifier}") is not None:
        raise InvalidRequest(_BUSY, code="terminal_reader_busy")
    return reader, customer


def _reader(store: TwinStore, identifier: str) -> dict[str, Any]:
    reader = store.get(KIND, identifier)
    if reader is None:
        raise InvalidRequest(
            f"No such terminal reader: '{identifier}'", code="resource_missing", parameter="reader", status=404
        )
    return reader

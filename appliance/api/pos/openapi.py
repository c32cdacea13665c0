"""OpenAPI 3.1 of the terminal protocol, made from the wire types: there is no second description to keep true."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from appliance.identity.signed import Encoding
from appliance.wire.answers import (
    AttestAnswer,
    BatchAnswer,
    DrawerAnswer,
    EscrowAnswer,
    Event,
    HeadAnswer,
    PairAnswer,
    PaymentAnswer,
    Problem,
    ReportAnswer,
    TokenAnswer,
    VoucherAnswer,
)
from appliance.wire.requests import BODIES, Claims

_SUMMARY: Final = {
    "payment": "Take a sale and its tenders; 202 while a card is being asked.",
    "status": "What the log says about a key, with a receipt under the newest head.",
    "reversal": "A payment must not stand, whatever became of it.",
    "abort": "Stop a payment that is not approved yet.",
    "capture": "Take money that a card's bank holds, all of it or less, with the tip as it is now.",
    "refund": "Give a payment back: an amount, or lines of the sale; without either, all that is left.",
    "batch": "Cash sales stored while the box was out of reach.",
    "drawer": "Float, paid in, paid out, no sale or count: what was done to the drawer beside selling.",
    "voucher": "Issue a voucher, look at one, or take back one of which nothing was spent.",
    "token": "Hand a provider's reusable token to the vault, look at one by its name, or have one forgotten.",
    "escrow": "The newest sealed parcel of payments whose money is not certain, to be kept for the owner.",
    "attest": "A quote of the TPM for the caller's nonce, with what is needed to judge it.",
    "report": "X: what the period of the drawer or terminal came to so far. Z: the same, and it ends there.",
    "head": "Show the signed head behind `seen`, when the box says 428: the box may have lost the end of its log.",
    "pair": "Bring a new terminal's key, with proof of the one-time code.",
}
_REFUSALS: Final = ("400", "401", "403", "404", "409", "413", "415", "422", "428", "503")


def openapi_document(version: str) -> dict[str, Any]:
    """The document as builtins, ready for JSON."""
    till = (DrawerAnswer, VoucherAnswer, TokenAnswer, EscrowAnswer, AttestAnswer, ReportAnswer)
    answers = (PaymentAnswer, BatchAnswer, *till, PairAnswer, HeadAnswer, Event, Problem)
    _, components = msgspec.json.schema_components(
        (Claims, *BODIES.values(), *answers), ref_template="#/components/schemas/{name}"
    )
    answer_of = {
        "batch": "BatchAnswer",
        "drawer": "DrawerAnswer",
        "voucher": "VoucherAnswer",
        "token": "TokenAnswer",
        "escrow": "EscrowAnswer",
        "attest": "AttestAnswer",
        "report": "ReportAnswer",
        "pair": "PairAnswer",
        "head": "HeadAnswer",
    }
    paths: dict[str, Any] = {
        f"/v1/{verb}": {"post": _operation(verb, answer_of.get(verb, "PaymentAnswer"))} for verb in _SUMMARY
    }
    paths["/v1/events"] = {
        "get": {
            "summary": "The terminal's own events; authorised by a signed `events` request.",
            "parameters": [{"name": "after", "in": "query", "schema": {"type": "integer", "minimum": -1}}],
            "responses": {"200": _content("Events", "text/event-stream", "Event")},
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tillstone terminal protocol", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(verb: str, answer: str) -> dict[str, Any]:
    claims = {
        "allOf": [
            {"$ref": "#/components/schemas/Claims"},
            {"properties": {"body": {"$ref": f"#/components/schemas/{BODIES[verb].__name__}"}}},
        ]
    }
    signed = {
        encoding.value: {"schema": {"type": "string", "description": "signed claims", "contentSchema": claims}}
        for encoding in Encoding
    }
    responses = {"200": _content("The result", "application/json", answer)}
    if verb not in ("batch", "drawer", "voucher", "token", "escrow", "attest", "report", "pair", "head", "status"):
        responses["202"] = _content("Durable, not final: follow events or ask status", "application/json", answer)
    for status in _REFUSALS:
        responses[status] = _content("Refused", "application/problem+json", "Problem")
    return {
        "summary": _SUMMARY[verb],
        "requestBody": {"required": True, "content": signed},
        "responses": responses,
    }


def _content(description: str, media_type: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": description, "content": {media_type: {"schema": reference}}}

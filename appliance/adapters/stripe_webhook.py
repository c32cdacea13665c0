"""Stripe's webhooks: who signed these bytes, when, and what they speak of. Pure; believes nothing else of them.

Rules:
- The signature is checked over the bytes as they came, in constant time, before anything of them is parsed.
- Only scheme v1 counts; several v1 come while a secret is rolled, and one good one is enough.
- The time in the signature may differ from our clock by `TOLERANCE_S`: what somebody recorded is not replayed later.

Source: docs.stripe.com/webhooks ("Verify webhook signatures manually", "Prevent replay attacks"),
docs.stripe.com/api/events/object.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from appliance.config.secret import Secret
from appliance.model.errors import Rejected
from appliance.model.ids import OperationId, ProviderReference
from appliance.ports.clock import Clock
from appliance.ports.hint import Hint

HEADER: Final = "stripe-signature"
TOLERANCE_S: Final = 300
_HEADER_CHARACTERS_MAX: Final = 2_048
_V1: Final = re.compile(r"\A[0-9a-f]{64}\Z")
_TIME: Final = re.compile(r"\A[0-9]{1,12}\Z")
_MONEY: Final = re.compile(r"\A(?:pi|re|pyr)_[0-9A-Za-z]{1,120}\Z")
_PAID: Final = "payment_intent.succeeded"


class _Handed(msgspec.Struct, frozen=True, kw_only=True):
    payment_intent: str = ""


class _Action(msgspec.Struct, frozen=True, kw_only=True):
    process_payment_intent: _Handed | None = None


class _Object(msgspec.Struct, frozen=True, kw_only=True):
    id: str = ""
    metadata: dict[str, str] = {}
    action: _Action | None = None


class _Payload(msgspec.Struct, frozen=True, kw_only=True):
    object: _Object


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(pattern=r"\Aevt_[0-9A-Za-z_]{1,120}\Z")]
    type: Annotated[str, Meta(max_length=128)]
    livemode: bool
    data: _Payload


class StripeWebhooks:
    """Satisfies `ports/hint.py` for one endpoint's secret."""

    def __init__(self, *, secret: Secret, is_live: bool, clock: Clock) -> None:
        self._secret = secret
        self._is_live = is_live
        self._clock = clock

    def read(self, body: bytes, headers: Mapping[str, str]) -> Hint:
        time_s, signatures = _taken_apart(headers.get(HEADER, ""))
        expected = hmac.new(self._secret.reveal_text().encode(), b"%d." % time_s + body, hashlib.sha256).hexdigest()
        if not any(hmac.compare_digest(expected, signature) for signature in signatures):
            raise Rejected("webhook_forged", "the webhook's signature is not by the secret of the settings")
        if abs(self._clock.now_ms() // 1000 - time_s) > TOLERANCE_S:
            raise Rejected("webhook_late", f"expected a webhook signed within {TOLERANCE_S} s of the box's clock")
        try:
            event = msgspec.json.decode(body, type=_Event)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise Rejected("webhook_malformed", "the webhook is genuine, and not an event that we can read") from None
        if event.livemode is not self._is_live:
            raise Rejected("webhook_malformed", "the webhook is of the other mode (live or test) than the key")
        return _hint(event)


def _hint(event: _Event) -> Hint:
    about = event.data.object
    handed = about.action.process_payment_intent if about.action is not None else None
    name = about.id if handed is None else handed.payment_intent
    operation = about.metadata.get("tillstone_operation", "")
    return Hint(
        event=event.id,
        reference=ProviderReference(name) if _MONEY.match(name) else None,
        log_origin=about.metadata.get("tillstone_log", ""),
        operation=OperationId(operation) if operation else None,
        says_paid=event.type == _PAID,
    )


def _taken_apart(header: str) -> tuple[int, list[str]]:
    """The time and every v1 signature. Raises Rejected `webhook_forged`: without both nobody signed it."""
    pairs = [part.partition("=") for part in header[:_HEADER_CHARACTERS_MAX].split(",")]
    times = [value for name, _, value in pairs if name.strip() == "t" and _TIME.match(value)]
    signatures = [value for name, _, value in pairs if name.strip() == "v1" and _V1.match(value)]
    if len(times) != 1 or not signatures:
        raise Rejected("webhook_forged", "the webhook has no Stripe-Signature with a time and a v1 signature")
    return int(times[0]), signatures

"""Coinbase's webhooks: who signed these bytes and headers, when, and what they speak of. Pure; believes nothing else.

Rules:
- The signature is checked over the bytes as they came, in constant time, before anything of them is parsed.
- Only `v1` counts: it covers the headers that `h` names as well as the body; `v0` covers the body alone.
- The time in the signature may differ from our clock by `TOLERANCE_S`: what somebody recorded is not replayed later.
- The body has no name of the event itself, so the same body is the same event.

Source: docs.cdp.coinbase.com/webhooks/verify-signatures (`t`, `h`, `v0`, `v1`, five minutes),
docs.cdp.coinbase.com/coinbase-business/checkout-apis/webhooks (events and their bodies).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from appliance.adapters.coinbase_reply import OURS, Checkout
from appliance.config.secret import Secret
from appliance.model.errors import Rejected
from appliance.model.ids import OperationId
from appliance.ports.clock import Clock
from appliance.ports.hint import Hint

HEADER: Final = "x-hook0-signature"
TOLERANCE_S: Final = 300
_HEADER_CHARACTERS_MAX: Final = 2_048
_NAMES_MAX: Final = 16
_V1: Final = re.compile(r"\A[0-9a-f]{64}\Z")
_TIME: Final = re.compile(r"\A[0-9]{1,12}\Z")
_PAID: Final = "checkout.payment.success"
_REFUND: Final = "checkout.refund."


class _Event(Checkout, frozen=True, kw_only=True, rename="camel"):
    event_type: Annotated[str, Meta(max_length=128)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    time_s: int
    header_names: str
    signature: str


class CoinbaseWebhooks:
    """Satisfies `ports/hint.py` for one subscription's secret."""

    def __init__(self, *, secret: Secret, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock

    def read(self, body: bytes, headers: Mapping[str, str]) -> Hint:
        signed = _taken_apart(headers.get(HEADER, ""))
        values = ".".join(headers.get(name.lower(), "") for name in signed.header_names.split(" "))
        before = f"{signed.time_s}.{signed.header_names}.{values}.".encode("utf-8", "surrogateescape")
        expected = hmac.new(self._secret.reveal(), before + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signed.signature):
            raise Rejected("webhook_forged", "the webhook's signature is not by the secret of the settings")
        if abs(self._clock.now_ms() // 1000 - signed.time_s) > TOLERANCE_S:
            raise Rejected("webhook_late", f"expected a webhook signed within {TOLERANCE_S} s of the box's clock")
        try:
            event = msgspec.json.decode(body, type=_Event)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise Rejected("webhook_malformed", "the webhook is genuine, and not an event that we can read") from None
        return _hint(event, hashlib.sha256(body).hexdigest())


def _hint(event: _Event, digest: str) -> Hint:
    metadata = event.metadata or {}
    log_origin, operation = metadata.get(OURS[0], ""), metadata.get(OURS[2], "")
    if event.event_type.startswith(_REFUND) and event.refunds:
        # Our names of a refund are in its reason; the newest one is what happened.
        newest = max(event.refunds, key=lambda refund: refund.created_at)
        log_origin, _, operation = (newest.reason or "").partition(" ")
    return Hint(
        event=digest,
        reference=event.reference,
        log_origin=log_origin,
        operation=OperationId(operation) if operation else None,
        says_paid=event.event_type == _PAID,
    )


def _taken_apart(header: str) -> _Signed:
    """Raises Rejected `webhook_forged`: without a time, names and a v1 signature nobody signed it."""
    parts = [part.strip().partition("=") for part in header[:_HEADER_CHARACTERS_MAX].split(",")]
    found = {name: value for name, _, value in parts}
    time_s, names, signature = found.get("t", ""), found.get("h", ""), found.get("v1", "")
    is_whole = len(found) == len(parts) and _TIME.match(time_s) and _V1.match(signature)
    if not is_whole or not 0 < len(names.split(" ")) <= _NAMES_MAX:
        raise Rejected("webhook_forged", "the webhook has no X-Hook0-Signature with a time, headers and a v1 signature")
    return _Signed(time_s=int(time_s), header_names=names, signature=signature)

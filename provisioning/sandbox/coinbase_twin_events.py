"""What the Coinbase twin tells by itself: webhooks, signed with the subscription's secret over headers and body.

Source: docs.cdp.coinbase.com/webhooks/verify-signatures (`t`, `v0`, `h`, `v1`),
docs.cdp.coinbase.com/coinbase-business/checkout-apis/webhooks (events and their bodies).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Any, Final

from msgspec import Meta

from provisioning.sandbox import twin_delivery
from provisioning.sandbox.stripe_twin_store import TwinStore
from provisioning.sandbox.twin_delivery import Listener
from provisioning.sandbox.twin_process import Post

RETRY_MS: Final = 10_000  # assumed: no page says when and how often
TRIES_MAX: Final = 25
SIGNED: Final = ("content-type", "x-event-id", "x-event-type")


class Hook(Listener, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The one subscription."""

    secret: Annotated[str, Meta(pattern=r"\A[0-9A-Za-z_-]{8,200}\Z")]


def emit(store: TwinStore, kind: str, checkout: dict[str, Any]) -> None:
    """Make an event; call it inside the transaction of the change."""
    twin_delivery.emit(store, store.new_id("evt"), kind, {**checkout, "eventType": kind})


def headers_for(secret: str, time_s: int, event: str, kind: str, body: bytes) -> dict[str, str]:
    """The headers of one delivery."""
    headers = {"content-type": "application/json", "x-event-id": event, "x-event-type": kind}
    names = " ".join(SIGNED)
    values = ".".join(headers[name] for name in SIGNED)
    v0, v1 = (
        hmac.new(secret.encode(), before.encode() + body, hashlib.sha256).hexdigest()
        for before in (f"{time_s}.", f"{time_s}.{names}.{values}.")
    )
    return {**headers, "x-hook0-signature": f"t={time_s},v0={v0},h={names},v1={v1}"}


async def deliver_due(store: TwinStore, post: Post) -> int:
    """Send what is due; returns how many requests were made."""
    hook = twin_delivery.hook_of(store, Hook)

    def headers(transmission: str, kind: str, body: bytes) -> dict[str, str]:
        event, secret = transmission.partition("-")[0], "" if hook is None else hook.secret
        return headers_for(secret, store.now_ms() // 1000, event, kind, body)

    return await twin_delivery.deliver_due(store, post, hook, headers, retry_ms=RETRY_MS, tries_max=TRIES_MAX)

"""What the Stripe twin tells by itself: events, and webhooks that carry them, signed.

An event becomes durable with the change it tells of. A webhook may come late, twice, in another order or never; whoever
listens must live with that.

Source: docs.stripe.com/api/events/object, docs.stripe.com/webhooks ("Verify webhook signatures with official
libraries", "Event ordering", "Automatic retries").
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from provisioning.sandbox.stripe_twin_store import Due, TwinStore
from provisioning.sandbox.twin_process import Post

DELIVER: Final = "deliver"
RETRY_FIRST_MS: Final = 5_000  # assumed: the page says "exponential back off" and gives no figures
RETRIES_MS_MAX: Final = 3 * 24 * 3_600_000
_HOOK: Final = "webhook"


class Hook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The one webhook endpoint, and how badly its deliveries travel.

    Attributes:
        is_held: nothing is sent until it is set to false.
        order: in which what is due at one moment is sent.
        copies: how often each delivery is sent.
        delay_ms: how late, in the twin's time.
    """

    url: str
    secret: Annotated[str, Meta(pattern=r"\Awhsec_[0-9A-Za-z]{8,}\Z")]
    is_held: bool = False
    order: Literal["made", "reversed"] = "made"
    copies: Annotated[int, Meta(ge=1, le=10)] = 1
    delay_ms: Annotated[int, Meta(ge=0)] = 0


def set_hook(store: TwinStore, hook: Hook) -> None:
    """Deliver to this endpoint from now on."""
    store.keep_note(_HOOK, msgspec.to_builtins(hook))


def emit(store: TwinStore, kind: str, body: dict[str, Any]) -> None:
    """Make an event about `body` as it is now; call it inside the transaction of the change."""
    event = {
        "id": store.new_id("evt"),
        "object": "event",
        "api_version": None,
        "created": store.now_ms() // 1000,
        "data": {"object": body},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }
    store.put("event", event)
    note = store.note(_HOOK)
    if note is not None:
        at_ms = store.now_ms() + msgspec.convert(note, Hook).delay_ms
        store.schedule(Due(at_ms=at_ms, what=DELIVER, subject=f"{event['id']} 0"))


def signature(secret: str, timestamp: int, payload: bytes) -> str:
    """The header `Stripe-Signature`: the time, and HMAC-SHA256 over time, full stop and body."""
    mac = hmac.new(secret.encode(), b"%d." % timestamp + payload, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"


async def deliver_due(store: TwinStore, post: Post) -> int:
    """Send what is due, again later what was not answered with 2xx; returns how many requests were made."""
    note = store.note(_HOOK)
    hook = None if note is None else msgspec.convert(note, Hook)
    if hook is None or hook.is_held:
        return 0
    due = store.take_due(DELIVER)
    if hook.order == "reversed":
        due.reverse()
    for each in due:
        taken = [await _deliver(store, hook, each, post) for _ in range(hook.copies)]
        if not all(taken):
            _again(store, each)
    return len(due) * hook.copies


async def _deliver(store: TwinStore, hook: Hook, due: Due, post: Post) -> bool:
    event = store.get("event", due.subject.split()[0])
    if event is None:
        return True
    payload = json.dumps(event).encode()
    # Each attempt has a time and a signature of its own.
    headers = {"Stripe-Signature": signature(hook.secret, store.now_ms() // 1000, payload)}
    status = await post(hook.url, payload, {**headers, "Content-Type": "application/json; charset=utf-8"})
    return 200 <= status < 300


def _again(store: TwinStore, due: Due) -> None:
    identifier, attempts = due.subject.split()
    event = store.get("event", identifier)
    at_ms = store.now_ms() + (RETRY_FIRST_MS << int(attempts))
    if event is not None and at_ms <= event["created"] * 1000 + RETRIES_MS_MAX:
        store.schedule(Due(at_ms=at_ms, what=DELIVER, subject=f"{identifier} {int(attempts) + 1}"))

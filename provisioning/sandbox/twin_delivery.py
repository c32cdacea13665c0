"""How a twin's webhooks travel: to one listener, late, twice, in another order or never, and again until taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from provisioning.sandbox.stripe_twin_store import Due, TwinStore
from provisioning.sandbox.twin_process import Post

DELIVER: Final = "deliver"
_HOOK: Final = "webhook"
Hook = TypeVar("Hook", bound="Listener")


class Listener(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The one listener, and how badly deliveries travel. Attributes: `copies`, how often each is sent."""

    url: str
    is_held: bool = False
    order: Literal["made", "reversed"] = "made"
    copies: Annotated[int, Meta(ge=1, le=10)] = 1


def set_hook(store: TwinStore, hook: Listener) -> None:
    """Deliver to this listener from now on."""
    store.keep_note(_HOOK, msgspec.to_builtins(hook))


def hook_of(store: TwinStore, shape: type[Hook]) -> Hook | None:
    """Who is delivered to; None: nobody."""
    note = store.note(_HOOK)
    return None if note is None else msgspec.convert(note, shape)


def emit(store: TwinStore, name: str, kind: str, body: dict[str, Any]) -> None:
    """Let `body` be sent; call it inside the transaction of the change."""
    store.put("event", {"id": name, "kind": kind, "body": body})
    store.schedule(Due(at_ms=store.now_ms(), what=DELIVER, subject=f"{name} 0"))


async def deliver_due(
    store: TwinStore,
    post: Post,
    listener: Listener | None,
    headers: Callable[[str, str, bytes], dict[str, str]],
    *,
    retry_ms: int,
    tries_max: int,
) -> int:
    """Send what is due, again later what was not answered with 2xx; returns how many requests were made.

    Args:
        headers: of one delivery, by its own name, the event's kind and its body.
    """
    if listener is None or listener.is_held:
        return 0
    due = store.take_due(DELIVER)
    if listener.order == "reversed":
        due.reverse()
    for each in due:
        name, tries = each.subject.split()
        event = store.get("event", name) or {}
        body = json.dumps(event.get("body", {})).encode()
        sent = headers(f"{name}-{tries}", event.get("kind", ""), body)
        taken = [200 <= await post(listener.url, body, sent) < 300 for _ in range(listener.copies)]
        if not all(taken) and int(tries) + 1 < tries_max:
            store.schedule(Due(at_ms=store.now_ms() + retry_ms, what=DELIVER, subject=f"{name} {int(tries) + 1}"))
    return len(due) * listener.copies

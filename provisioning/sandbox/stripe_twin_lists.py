"""How the Stripe twin shows what it has: one object, or a page of a list. Never changes anything.

Source: docs.stripe.com/api/pagination, docs.stripe.com/api/payment_intents/list.
"""

from __future__ import annotations

from provisioning.sandbox.stripe_twin_form import Answered, InvalidRequest, Parameters, refusal, refuse_unknown
from provisioning.sandbox.stripe_twin_store import TwinStore


def retrieve(store: TwinStore, kind: str, identifier: str) -> Answered:
    body = store.get(kind, identifier)
    return Answered(status=200, body=body) if body else _missing(kind, identifier)


def listing(store: TwinStore, kind: str, parameters: Parameters) -> Answered:
    """Newest first; `starting_after`, `ending_before`, `limit`, `created[...]`, and for refunds `payment_intent`."""
    refuse_unknown(parameters, frozenset({"limit", "starting_after", "ending_before", "payment_intent"}), ("created[",))
    parent = parameters.get("payment_intent", "")
    items = [item for item in store.newest_first(kind, parent=parent) if _is_within(item["created"], parameters)]
    limit = int(parameters.get("limit", "10"))
    if not 1 <= limit <= 100:
        raise InvalidRequest("This value must be between 1 and 100.", parameter="limit")
    identifiers = [item["id"] for item in items]
    for cursor in ("starting_after", "ending_before"):
        if cursor in parameters and parameters[cursor] not in identifiers:
            raise InvalidRequest(f"No such object: {parameters[cursor]}", code="resource_missing", parameter=cursor)
    has_more = False
    if "ending_before" in parameters:
        before = items[: identifiers.index(parameters["ending_before"])]
        page, has_more = before[-limit:], len(before) > limit
    else:
        start = identifiers.index(parameters["starting_after"]) + 1 if "starting_after" in parameters else 0
        page, has_more = items[start : start + limit], len(items) > start + limit
    return Answered(status=200, body={"object": "list", "url": f"/v1/{kind}s", "has_more": has_more, "data": page})


def _missing(kind: str, identifier: str) -> Answered:
    return refusal(f"No such {kind}: '{identifier}'", code="resource_missing", parameter="id", status=404)


def _is_within(created: int, parameters: Parameters) -> bool:
    bounds = {"gte": int.__ge__, "gt": int.__gt__, "lte": int.__le__, "lt": int.__lt__}
    return all(
        compare(created, int(parameters[f"created[{name}]"]))
        for name, compare in bounds.items()
        if f"created[{name}]" in parameters
    )

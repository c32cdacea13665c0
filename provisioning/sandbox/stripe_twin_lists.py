"""How the Stripe twin shows what it has: one object, a page of a list, a search. Never changes anything.

Source: docs.stripe.com/api/pagination, docs.stripe.com/api/payment_intents/list,
docs.stripe.com/api/payment_intents/search, docs.stripe.com/search.
"""

from __future__ import annotations

import re
from typing import Any, Final

from provisioning.sandbox.stripe_twin_form import (
    Answered,
    InvalidRequest,
    Parameters,
    refusal,
    refuse_unknown,
    required,
)
from provisioning.sandbox.stripe_twin_store import TwinStore

SEARCH_DELAY_MS: Final = 60_000
"""docs.stripe.com/api/payment_intents/search: searchable "in less than a minute"; the twin takes the whole minute."""
_CLAUSE: Final = re.compile(r"""\A(?:(status)|metadata\[["']([^"']{1,40})["']\]):["']([^"']*)["']\Z""")


def retrieve(store: TwinStore, kind: str, identifier: str) -> Answered:
    body = store.get(kind, identifier)
    return Answered(status=200, body=body) if body else _missing(kind, identifier)


def listing(store: TwinStore, kind: str, parameters: Parameters) -> Answered:
    """Newest first; `starting_after`, `ending_before`, `limit`, `created[...]`, and for refunds `payment_intent`."""
    parent = parameters.get("payment_intent", "")
    return page_of(store.newest_first(kind, parent=parent), kind, parameters)


def page_of(found: list[dict[str, Any]], kind: str, parameters: Parameters) -> Answered:
    """The page of `found`, newest first, that was asked for."""
    known = frozenset({"limit", "starting_after", "ending_before", "payment_intent"})
    refuse_unknown(parameters, known, ("created[", "expand["))
    items = [item for item in found if _is_within(item.get("created", 0), parameters)]
    limit = _limit(parameters)
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


def search(store: TwinStore, kind: str, parameters: Parameters) -> Answered:
    """What fits `status` and `metadata` clauses joined by AND, as it stood a minute ago."""
    refuse_unknown(parameters, frozenset({"query", "limit"}))
    clauses = [_CLAUSE.match(clause.strip()) for clause in required(parameters, "query").split(" AND ")]
    if not all(clauses):
        raise InvalidRequest("We were unable to parse your search query.", parameter="query")
    limit = _limit(parameters)
    found = [
        item
        for item in store.as_of(kind, store.now_ms() - SEARCH_DELAY_MS)
        if all(_fits(item, clause) for clause in clauses if clause is not None)
    ]
    body = {"object": "search_result", "url": f"/v1/{kind}s/search", "has_more": len(found) > limit, "next_page": None}
    return Answered(status=200, body={**body, "data": found[:limit]})


def _fits(item: dict[str, Any], clause: re.Match[str]) -> bool:
    status, key, value = clause.groups()
    return bool(item["status"] == value if status else item["metadata"].get(key) == value)


def _limit(parameters: Parameters) -> int:
    text = parameters.get("limit", "10")
    if not text.isascii() or not text.isdigit():
        raise InvalidRequest(f"Invalid integer: {text}", code="parameter_invalid_integer", parameter="limit")
    if not 1 <= int(text) <= 100:
        raise InvalidRequest("This value must be between 1 and 100.", parameter="limit")
    return int(text)


def _missing(kind: str, identifier: str) -> Answered:
    return refusal(f"No such {kind}: '{identifier}'", code="resource_missing", parameter="id", status=404)


def _is_within(created: int, parameters: Parameters) -> bool:
    bounds = {"gte": int.__ge__, "gt": int.__gt__, "lte": int.__le__, "lt": int.__lt__}
    return all(
        compare(created, _seconds(parameters[f"created[{name}]"]))
        for name, compare in bounds.items()
        if f"created[{name}]" in parameters
    )


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidRequest(f"Invalid timestamp: {text}", parameter="created")
    return int(text)

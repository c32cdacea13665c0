"""The OpenAPI document: whole, and made of the wire types alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from appliance.api.pos.openapi import openapi_document
from appliance.wire.requests import BODIES

DOCUMENT: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(openapi_document("1.2.3")))


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"] == {"title": "Tillstone terminal protocol", "version": "1.2.3"}


@pytest.mark.parametrize("verb", sorted(BODIES))
def test_every_verb_is_described(verb: str) -> None:
    method = "get" if verb == "events" else "post"
    operation = DOCUMENT["paths"][f"/v1/{verb}"][method]
    assert operation["summary"]
    assert "200" in operation["responses"]
    for status, response in operation["responses"].items():
        assert 200 <= int(status) < 600
        assert response["description"]
    if method == "post":
        assert set(operation["requestBody"]["content"]) == {"application/cose", "application/jose"}


def test_every_reference_resolves_and_every_component_is_used() -> None:
    found = set(references(DOCUMENT))
    schemas = DOCUMENT["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in found} <= set(schemas)
    assert {f"{body.__name__}" for body in BODIES.values()} <= set(schemas)


def test_unknown_members_are_refused_in_every_request_body() -> None:
    for body in BODIES.values():
        assert DOCUMENT["components"]["schemas"][body.__name__]["additionalProperties"] is False

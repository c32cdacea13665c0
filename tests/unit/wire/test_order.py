"""Owns the promise that wire shapes are encoded in order: what makes `cbor.encode_ordered` right for them."""

from __future__ import annotations

import msgspec
import pytest

from appliance.wire import (
    answers,
    attestation,
    backup_entries,
    ceremony_entries,
    device_entries,
    entries,
    reconcile_entries,
    requests,
    till_entries,
    update_entries,
)
from appliance.wire.requests import Wire

MODULES = (
    requests,
    entries,
    backup_entries,
    ceremony_entries,
    device_entries,
    till_entries,
    update_entries,
    reconcile_entries,
    attestation,
    answers,
)
SHAPES: list[type[Wire]] = [
    shape
    for module in MODULES
    for shape in vars(module).values()
    if isinstance(shape, type) and issubclass(shape, Wire) and shape.__module__ == module.__name__
]


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.__name__ for shape in SHAPES])
def test_members_are_declared_in_the_order_of_their_cbor_keys(shape: type[Wire]) -> None:
    names = [field.encode_name for field in msgspec.structs.fields(shape)]
    assert names == sorted(names, key=lambda name: (len(name.encode()), name.encode()))

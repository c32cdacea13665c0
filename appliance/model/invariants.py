"""Invariants that hold in production too: plain `assert` vanishes under `python -O`."""

from __future__ import annotations

from typing import TypeVar

from appliance.model.errors import Bug

ValueT = TypeVar("ValueT")


def ensure(condition: bool, sentence: str) -> None:
    """Raise `Bug` unless `condition` holds; `sentence` states what must be true."""
    if not condition:
        raise Bug("invariant_broken", sentence)


def present(value: ValueT | None, sentence: str) -> ValueT:
    """`value`, which is never None here; `sentence` states why. Raises `Bug`."""
    if value is None:
        raise Bug("invariant_broken", sentence)
    return value

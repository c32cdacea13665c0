"""Invariants that hold in production too: plain `assert` vanishes under `python -O`."""

from __future__ import annotations

from appliance.model.errors import Bug


def ensure(condition: bool, sentence: str) -> None:
    """Raise `Bug` unless `condition` holds; `sentence` states what must be true."""
    if not condition:
        raise Bug("invariant_broken", sentence)

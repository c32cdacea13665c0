"""How far a box came with an update: the states, and which may follow which. The table is the whole truth."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from appliance.model.invariants import ensure


class UpdateState(StrEnum):
    """What the log says of the newest update."""

    NONE = "none"  # there never was one
    STAGED = "staged"  # verified and kept; the next start may be the new image's
    TRYING = "trying"  # the new image runs and has to prove itself; the old one is kept
    CONFIRMED = "confirmed"  # the new image sells; older ones are refused for good
    FELL_BACK = "fell_back"  # the old image went on


NEXT: Final[dict[UpdateState, frozenset[UpdateState]]] = {
    UpdateState.NONE: frozenset({UpdateState.STAGED}),
    # Straight to fell_back: the installer refused it, or the new image never came as far as to say a word.
    UpdateState.STAGED: frozenset({UpdateState.TRYING, UpdateState.FELL_BACK}),
    UpdateState.TRYING: frozenset({UpdateState.CONFIRMED, UpdateState.FELL_BACK}),
    UpdateState.CONFIRMED: frozenset({UpdateState.STAGED}),
    UpdateState.FELL_BACK: frozenset({UpdateState.STAGED}),
}
OPEN: Final = frozenset({UpdateState.STAGED, UpdateState.TRYING})
"""An update is on its way; there is only one at a time."""


def follow(before: UpdateState, after: UpdateState) -> UpdateState:
    """`after`, if the table allows it after `before`; else a bug."""
    ensure(after in NEXT[before], f"an update goes not from {before} to {after}")
    return after

"""The end of a token's keys. There is no way back: what they sealed stays sealed, what they signed stays true."""

from __future__ import annotations

from drivers.hsm.errors import KeyRefused
from drivers.hsm.token import Session


def destroy_all(session: Session) -> int:
    """Destroy every object that this login sees; returns how many. Doing it again finds none.

    Args:
        session: writable.
    Raises:
        KeyRefused: one is still there.
    """
    with session.used("destroy every object") as raw:
        found = list(raw.get_objects())
        for each in found:
            each.destroy()
        left = len(list(raw.get_objects()))
    if left:
        raise KeyRefused(f"{left} of {len(found)} objects are still in the token")
    return len(found)

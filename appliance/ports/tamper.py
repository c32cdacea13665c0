"""What the core needs from the contact that says whether somebody opened the case."""

from __future__ import annotations

from typing import Protocol


class TamperContact(Protocol):
    """Latches: an opening counts until `reset`, however short it was."""

    async def is_open(self) -> bool:
        """Whether the case is open, or was since the last reset.

        Raises:
            Unavailable: `tamper_unreadable`: nobody knows.
        """
        ...

    async def reset(self) -> None:
        """Forget an opening that is over; a case that is still open is open at the next question. Raises the same."""
        ...

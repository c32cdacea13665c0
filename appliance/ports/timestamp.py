"""A calendar: a server that puts other people's digests into a block, many at a time."""

from __future__ import annotations

from typing import Protocol


class Calendar(Protocol):
    """One calendar. What comes back is bytes of the OpenTimestamps format, not yet believed.

    Both verbs raise Unavailable when it cannot be asked now (`calendar_away`, `calendar_answer_unreadable`), and
    Rejected when it does not want the question (`calendar_refused`).
    """

    @property
    def address(self) -> str:
        """Where it answers, as its promises name it."""

    async def submit(self, digest: bytes) -> bytes:
        """Hand in a digest (32 bytes) and get a timestamp of it that ends in a promise; twice is harmless."""

    async def lookup(self, commitment: bytes) -> bytes | None:
        """The timestamp of a promised message; None while it waits for its block."""

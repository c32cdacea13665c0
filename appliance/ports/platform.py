"""What an update needs of the machine below the process: its image, its counters, the installer's ear and mouth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from appliance.wire.installer import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningImage:
    """The image that this process is part of."""

    model: str
    version: str


class Counters(Protocol):
    """The platform's root of trust, as far as releases are concerned."""

    async def floor(self) -> int:
        """The release number below which nothing is approved any more."""
        ...

    async def raise_floor(self, number: int) -> int:
        """Raise the floor to `number`, never lower it; returns what it is then."""
        ...

    async def resets(self) -> int:
        """How often the platform started from cold."""
        ...


class Spool(Protocol):
    """Where an update is kept for the installer, and what the installer said. Blocking: call it from a thread."""

    def room_bytes(self) -> int:
        """Free space."""
        ...

    def begin(self) -> Callable[[bytes], None]:
        """Forget what came before; what is returned takes an update in pieces.

        That one raises Unavailable `update_no_room`.
        """
        ...

    def keep(self) -> None:
        """What was taken is whole, and survives a power cut."""
        ...

    def ask(self, asked: bytes) -> bool:
        """Have it installed, under this name; False when nothing is kept."""
        ...

    def nudge(self) -> None:
        """Have the installer look again at what is asked."""
        ...

    def report(self) -> Report | None:
        """The installer's last word."""
        ...

    def note(self, trouble: str) -> None:
        """Leave a word for the image that may have to go on."""
        ...

    def noted(self) -> str:
        """That word, or nothing."""
        ...

    def clear(self) -> None:
        """Nothing is asked and nothing kept from now on."""
        ...

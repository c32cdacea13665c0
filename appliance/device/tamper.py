"""The watch over the tamper contact: an opening is told once; one that cannot be read is said, and stops nothing.

A shop must not close because a sensor's driver did not load: what cannot be read is a finding for a person. What is
read as open locks at once, and by policy more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from appliance.device.health import Finding, Level
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.ports.clock import Clock
from appliance.ports.tamper import TamperContact
from appliance.runtime.log import Log

LOOK_MS: Final = 100
REASON: Final = "the case was opened"


class TamperWatch:
    """One contact.

    Args:
        opened: hears of each opening, once; it may fail, then it is told again at the next look.
    """

    def __init__(
        self, *, contact: TamperContact, opened: Callable[[], Awaitable[None]], clock: Clock, log: Log
    ) -> None:
        self._contact = contact
        self._opened = opened
        self._clock = clock
        self._log = log
        self._is_told = False
        self._trouble: str | None = None

    async def look(self) -> None:
        """Ask once; the first time before any door opens: the case may have been opened while the box was off."""
        try:
            is_open = await self._contact.is_open()
        except Unavailable as trouble:
            if self._trouble is None:
                self._log.error("tamper.unreadable", detail=trouble.detail)
            self._trouble = trouble.detail
            return
        self._trouble = None
        if not is_open:
            self._is_told = False
        elif not self._is_told:
            try:
                await self._opened()
            except (Unavailable, OutcomeUnknown) as trouble:
                self._log.warning("tamper.unrecorded", code=trouble.code)
                return
            self._is_told = True

    async def run(self) -> None:
        """A service."""
        while True:
            await self._clock.sleep(LOOK_MS)
            await self.look()

    async def require_closed(self) -> None:
        """Reset the contact, and return when it stays closed: before an operator unlocks.

        Raises:
            Rejected: `tamper_open`.
            Unavailable: `tamper_unreadable`.
        """
        await self._contact.reset()
        if await self._contact.is_open():
            raise Rejected("tamper_open", "the case is open: close it, then unlock")

    def check(self) -> Finding:
        """What health says; an opening is told by the lock."""
        if self._trouble is None:
            return Finding(check="case", level=Level.OK, sentence="The case's contact is watched.")
        return Finding(
            check="case",
            level=Level.COPING,
            sentence="The case's contact cannot be read: an opening goes unseen.",
            next_step=f"Look at [tamper] in the settings. It said: {self._trouble}.",
        )

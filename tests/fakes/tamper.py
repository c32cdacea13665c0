"""A contact without a case: satisfies `ports/tamper.py` and the contract suite of the real ones."""

from __future__ import annotations

from appliance.model.errors import Unavailable


class FakeContact:
    """Switches: `is_lid_open`; `is_away`: it cannot be read."""

    def __init__(self) -> None:
        self.is_lid_open = False
        self.is_away = False
        self._was_open = False

    async def is_open(self) -> bool:
        if self.is_away:
            raise Unavailable("tamper_unreadable", "the fake was told to be away")
        self._was_open |= self.is_lid_open
        return self._was_open

    async def reset(self) -> None:
        await self.is_open()
        self._was_open = False

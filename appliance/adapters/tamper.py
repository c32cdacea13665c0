"""The tamper contact behind its owner thread: opened when first asked, and anew after each failure."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from appliance.adapters.owner_thread import OwnerThread, SessionKind
from appliance.model.errors import OutcomeUnknown, TillstoneError, Unavailable
from drivers.board.contact_file import FileContact
from drivers.board.contact_gpio import GpioContact
from drivers.board.errors import BoardError

DEADLINE_MS: Final = 3_000
_QUEUE_DEPTH_MAX: Final = 4


class Contact(Protocol):
    """A driver of `drivers/board`."""

    def is_open(self) -> bool: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


class BoardContact:
    """Satisfies `ports/tamper.py`.

    Args:
        line: `file:PATH` or `gpio:CHIP:OFFSET[:active_low]`, as the settings have it.
    """

    def __init__(self, line: str, *, debounce_ms: int) -> None:
        self._thread = OwnerThread(
            kind=SessionKind(
                name="tamper contact",
                open=lambda: open_contact(line, debounce_s=debounce_ms / 1_000),
                close=lambda contact: contact.close(),
                translate=_translated,
                is_fatal=lambda error: isinstance(error, BoardError),
            ),
            queue_depth_max=_QUEUE_DEPTH_MAX,
        )

    async def is_open(self) -> bool:
        try:
            return await self._thread.run(lambda contact: contact.is_open(), DEADLINE_MS)
        except OutcomeUnknown as late:
            raise Unavailable("tamper_unreadable", late.detail) from late

    async def reset(self) -> None:
        try:
            await self._thread.run(lambda contact: contact.reset(), DEADLINE_MS)
        except OutcomeUnknown as late:
            raise Unavailable("tamper_unreadable", late.detail) from late

    async def close(self) -> None:
        """Let the line go."""
        await self._thread.close()


def open_contact(line: str, *, debounce_s: float) -> Contact:
    """The driver that `line` names. Raises ContactUnreadable."""
    kind, _, where = line.partition(":")
    if kind == "file":
        return FileContact(Path(where), debounce_s=debounce_s)
    chip, offset, *active_low = where.split(":")
    return GpioContact(chip, int(offset), is_active_low=bool(active_low), debounce_s=debounce_s)


def _translated(error: Exception) -> TillstoneError | None:
    return Unavailable("tamper_unreadable", str(error)) if isinstance(error, BoardError) else None

"""The body of the entry about a backup. As `entries.py`: what is written stays. Source: docs/formats/entry-kinds.md."""

from __future__ import annotations

from typing import Final

from appliance.wire.requests import Wire

BACKED_UP: Final = "backed_up"


class BackedUpEntry(Wire, frozen=True, kw_only=True):
    """kind `backed_up`: a backup holds the first `size` entries; `digest` is SHA-256 of all that is in it."""

    size: int
    digest: bytes

"""The end of a box: marked so that it cannot be cut short, then its secrets are destroyed.

The mark is a file beside the log, because after a crash in the middle there may be no key left to open the log with.
From the mark on every start finishes the work and goes no further.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.ledger.recover import write_durably

_MARK: Final = "retired"
_REASON_BYTES_MAX: Final = 2_048


def mark_retired(folder: Path, reason: str) -> None:
    """From here on the box in `folder` (where its log lies) never starts again; durable on return."""
    write_durably(folder / _MARK, reason.encode()[:_REASON_BYTES_MAX])


def retired_for(folder: Path) -> str | None:
    """Why the box was retired; None: it was not."""
    try:
        return (folder / _MARK).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None

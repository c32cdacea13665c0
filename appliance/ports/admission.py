"""May we sell right now? One question, asked before anything that starts a new sale."""

from __future__ import annotations

from typing import Protocol


class Admission(Protocol):
    """The box's own state, as far as new sales are concerned; outcomes and recovery never ask."""

    def admit(self) -> None:
        """Return when the box may take a new sale.

        Raises:
            Unavailable: it may not now; `code` and `detail` say why (quarantined, signing_down, disk_low, ...).
        """
        ...

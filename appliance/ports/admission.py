"""May we move money right now? Asked before anything that starts a sale or takes one back."""

from __future__ import annotations

from typing import Protocol


class Admission(Protocol):
    """The box's own state, as far as new movements are concerned; outcomes and recovery never ask."""

    def admit(self) -> None:
        """Return when the box may take a new sale.

        Raises:
            Unavailable: it may not now; `code` and `detail` say why (quarantined, signing_down, disk_low, ...).
        """
        ...

    def admit_undo(self) -> None:
        """Return when the box may begin to take a payment back.

        Raises:
            Unavailable: `quarantined`: what the log says about the payment may not be all that happened to it.
        """
        ...

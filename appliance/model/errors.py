"""Six kinds of trouble, named by who must act.

Before money can move a failure is raised; after the point of no return it is a value (`model/payment.py`).
`api/problem.py` alone turns these into status codes.

Source: ARCHITECTURE section 3, STYLE "Errors".
"""

from __future__ import annotations


class TillstoneError(Exception):
    """Base of every error of ours; never raised itself.

    Attributes:
        code: stable, lower_snake, for programs; listed in `docs/formats/problems.md`.
        detail: one sentence for people: what was expected, what was seen. Holds no secret and no request body.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Rejected(TillstoneError):
    """The caller must change the request; nothing was written."""


class Unavailable(TillstoneError):
    """Nothing happened; the same request may succeed later."""


class OutcomeUnknown(TillstoneError):
    """The effect may or may not have happened; recovery owns it, the caller must not assume either."""


class Corrupt(TillstoneError):
    """Our own records disagree with each other: the process stops."""


class Bug(TillstoneError):
    """A broken invariant of our own code."""

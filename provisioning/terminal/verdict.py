"""What an answer's status means for a till that may have sent the same sale before. The table is the whole truth.

Owns that decision alone. Must never wait, send or remember.

Source: docs/formats/terminal-protocol.md section 7.
"""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import Final


class Verdict(Enum):
    """What to do next."""

    ANSWERED = "answered"
    """The durable result is in the answer; it may still say that the payment is being checked."""
    LEARN_CLOCK = "learn_clock"
    """Nothing happened. Take the box's time from the refusal, sign the same claims again."""
    SAME_KEY_LATER = "same_key_later"
    """Nothing happened to this request. Wait, then send the same key and payload."""
    MAY_HAVE_HAPPENED = "may_have_happened"
    """The box failed while working on it. Send the same key and payload; never a new key."""
    REFUSED = "refused"
    """The box says no to this very key and payload, and will say it again."""
    NOT_HEARD = "not_heard"
    """The box would not listen. An earlier attempt with this key may nevertheless have happened."""


_BY_STATUS: Final[dict[int, Verdict]] = {
    HTTPStatus.OK: Verdict.ANSWERED,
    HTTPStatus.ACCEPTED: Verdict.ANSWERED,
    HTTPStatus.BAD_REQUEST: Verdict.NOT_HEARD,
    HTTPStatus.UNAUTHORIZED: Verdict.NOT_HEARD,
    HTTPStatus.FORBIDDEN: Verdict.NOT_HEARD,
    HTTPStatus.NOT_FOUND: Verdict.REFUSED,
    HTTPStatus.METHOD_NOT_ALLOWED: Verdict.NOT_HEARD,
    HTTPStatus.CONFLICT: Verdict.REFUSED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Verdict.NOT_HEARD,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: Verdict.NOT_HEARD,
    HTTPStatus.UNPROCESSABLE_ENTITY: Verdict.REFUSED,
    HTTPStatus.PRECONDITION_REQUIRED: Verdict.NOT_HEARD,
    HTTPStatus.TOO_MANY_REQUESTS: Verdict.SAME_KEY_LATER,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: Verdict.NOT_HEARD,
    HTTPStatus.SERVICE_UNAVAILABLE: Verdict.SAME_KEY_LATER,
}


IN_DOUBT: Final = frozenset(
    {"box_stopped", "commit_failed", "device_deadline", "outcome_unknown", "tpm_unsure", "work_cut_off", "work_overran"}
)
"""Codes of 503 after which the request may have been recorded (tests compare this with what the box can raise)."""

NEEDS_A_PERSON: Final = frozenset(
    {"device_failed", "device_locked", "device_retired", "device_unprovisioned", "quarantined"}
)
"""Codes of 503 that no wait of a till ends: the cashier is told at once, and the key stays good."""


def of(status: int, code: str) -> Verdict:
    """The verdict on an answer; a status that nobody promised cannot be told from a lost answer."""
    if status == HTTPStatus.BAD_REQUEST and code == "clock_skew":
        return Verdict.LEARN_CLOCK
    if status == HTTPStatus.SERVICE_UNAVAILABLE and code in IN_DOUBT:
        return Verdict.MAY_HAVE_HAPPENED
    return _BY_STATUS.get(status, Verdict.MAY_HAVE_HAPPENED)

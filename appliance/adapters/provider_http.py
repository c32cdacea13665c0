"""HTTP to a provider, as far as it is the same at every one: where it may go, what arrived whole, how it is read.

Must never know a vendor's words, and never ask: each provider's session does.
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from appliance.model.errors import Rejected
from appliance.model.limits import MINUTE_MS
from appliance.ports.provider import (
    AcceptedOffline,
    Answer,
    Confirmed,
    Declined,
    NotSent,
    PartlyConfirmed,
    Refused,
    Unknown,
)

CLOCK_DISAGREEMENT_MAX_MS: Final = 5 * MINUTE_MS
"""A provider whose clock lies farther from ours lists another time than we ask about."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
Shape = TypeVar("Shape")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer that arrived whole.

    Attributes:
        date_ms: the answer's Date header, Unix milliseconds; None when it had none.
    """

    status: int
    body: bytes | str
    date_ms: int | None = None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


def read(body: bytes | str, shape: type[Shape] | Any) -> Shape | None:
    """`body` as `shape`, or None when it is not exactly that."""
    try:
        answer: Shape = msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return answer


def date_ms(header: str | None) -> int | None:
    """A Date header as Unix milliseconds; None for none, or one that is no date."""
    if header is None:
        return None
    try:
        return int(email.utils.parsedate_to_datetime(header).timestamp()) * 1000
    except (TypeError, ValueError, OverflowError):
        return None


def check_address(address: str) -> None:
    """Raises Rejected `provider_address_insecure`."""
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Rejected("provider_address_insecure", "the provider's address must be https, or http on this machine")


def why(answer: Answer) -> str:
    """The stable word for an answer that settles nothing when it was only read."""
    match answer:
        case Unknown() | NotSent():
            return answer.reason
        case Refused() | Declined():
            return answer.code
        case Confirmed() | PartlyConfirmed() | AcceptedOffline():
            return "confirmed"

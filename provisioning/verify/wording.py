"""How values of a log read to a person: money, times, keys, text of strangers. Never raises, whatever a body holds."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Final

from appliance.model.money import EXPONENTS

_YEAR_10000_MS: Final = 253_402_300_800_000
_KEY_BYTES: Final = 16


def money_text(amount_minor: int, currency: str) -> str:
    """`12.50 EUR`."""
    digits = EXPONENTS.get(currency)
    if digits is None:
        return f"{amount_minor} minor units of {printable(currency) or 'no currency'}"
    whole, part = divmod(abs(amount_minor), 10**digits)
    fraction = f".{part:0{digits}d}" if digits else ""
    return f"{'-' if amount_minor < 0 else ''}{whole}{fraction} {currency}"


def time_text(time_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds."""
    if not 0 <= time_ms < _YEAR_10000_MS:
        return f"{time_ms} ms after 1970"
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def key_text(octets: bytes) -> str:
    """A caller's idempotency key as the UUID it is."""
    return str(uuid.UUID(bytes=octets)) if len(octets) == _KEY_BYTES else octets.hex()


def short(digest: bytes) -> str:
    """The first 16 hexadecimal digits of a hash."""
    return digest.hex()[:16]


def printable(text: str) -> str:
    """`text` without the power to move a cursor, colour a screen or turn the reading direction."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)

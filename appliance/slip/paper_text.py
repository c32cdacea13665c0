"""Text as paper has it: columns, wrapping, amounts.

Owns what may stand in a row. Must never let a control character through: a till's SKU is anybody's text, and a printer
obeys control characters.
"""

from __future__ import annotations

import datetime
import textwrap
import unicodedata
import zoneinfo

from appliance.model.money import EXPONENTS


def clean(text: str) -> str:
    """`text` on one line, without what is no character for people (Unicode categories C and Z but the space)."""
    return clean_row(text).strip()


def clean_row(text: str) -> str:
    """As `clean`, with the spaces that place it."""
    return "".join([" " if unicodedata.category(one)[0] in "CZ" else one for one in text]).rstrip()


def columns(text: str) -> int:
    """How many columns `text` takes: two for wide characters, none for combining ones."""
    return sum([2 if unicodedata.east_asian_width(one) in "WF" else not unicodedata.combining(one) for one in text])


def amount(minor: int, currency: str) -> str:
    """`-9.90`; without the code, which stands once above its column."""
    digits = EXPONENTS.get(currency, 2)
    whole, part = divmod(abs(minor), 10**digits)
    return f"{'-' if minor < 0 else ''}{whole}" + (f".{part:0{digits}d}" if digits else "")


def thousandths(count: int) -> str:
    """`1.5` of 1500."""
    return f"{count / 1000:.3f}".rstrip("0").rstrip(".") if count % 1000 else str(count // 1000)


def both_ends(left: str, right: str, width: int) -> list[str]:
    """`left ... right`; what does not fit goes on before the row with `right`."""
    rows = wrapped(left, width) or [""]
    room = width - columns(rows[-1]) - columns(right)
    if room >= 1 or not right:
        return [*rows[:-1], rows[-1] + " " * max(room, 0) + right]
    return [*rows, " " * (width - columns(right)) + right]


def centred(text: str, width: int) -> list[str]:
    return [" " * ((width - columns(row)) // 2) + row for row in wrapped(text, width)]


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Rows of at most `width` columns; a word that is longer is cut."""
    rows: list[str] = []
    for row in textwrap.wrap(clean(text), width, initial_indent=indent, subsequent_indent=indent):
        while columns(row) > width:  # wide characters: textwrap counts each as one
            keep = next(end for end in range(len(row), 0, -1) if columns(row[:end]) <= width)
            rows.append(row[:keep])
            row = indent + row[keep:]
        rows.append(row)
    return rows


def zone_of(name: str) -> datetime.tzinfo:
    """The IANA zone `name`; UTC where this machine does not know it. Reads files: not for the event loop."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return datetime.UTC


def local_time(time_ms: int, zone: datetime.tzinfo) -> str:
    """`2026-11-26 14:31:08 +01:00`."""
    try:
        moment = datetime.datetime.fromtimestamp(time_ms // 1000, zone)
    except (ValueError, OverflowError):
        return f"{time_ms} ms"
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.isoformat()[-6:]}"

"""A file of purchases: customer, day, number of pieces, price; one line each under a header.

Owns reading it. Must never skip a line: one that cannot be read stops the replay with its number.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from provisioning.commands.outcome import CannotDo

_LINE: Final = re.compile(r"\s*(\d{1,10})\s+(\d{8})\s+(\d{1,6})\s+(\d{1,9}(?:\.\d{1,2})?)\s*")
_GZIP_MAGIC: Final = b"\x1f\x8b"
_CENTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """One line: `row` counts from 1 after the header, `day` is YYYYMMDD."""

    row: int
    customer: str
    day: str
    pieces: int
    amount_minor: int


def read_purchases(path: Path, limit: int | None) -> list[Purchase]:
    """Every purchase of the file, or the first `limit`. Raises CannotDo."""
    try:
        octets = path.read_bytes()
    except OSError as cause:
        raise CannotDo(f"{path} cannot be read: {cause.strerror}", "make replay FILE=path") from cause
    lines = _text(path, octets).splitlines()
    if lines and _LINE.fullmatch(lines[0]):
        raise CannotDo(f"{path} begins with a purchase", "put a header line first: it is not read, a purchase would be")
    lines = lines[1:]
    purchases = [_read(row, line) for row, line in enumerate(lines[:limit], start=1) if line.strip()]
    if not purchases:
        raise CannotDo(f"{path} holds no purchases", "expected a header, then: customer, YYYYMMDD, pieces, price")
    return purchases


def _text(path: Path, octets: bytes) -> str:
    try:
        plain = gzip.decompress(octets) if octets.startswith(_GZIP_MAGIC) else octets
    except (EOFError, OSError, zlib.error) as cause:
        raise CannotDo(f"{path} is no whole gzip file: {cause}", "get it again") from cause
    return plain.decode("ascii", errors="replace")


def _read(row: int, line: str) -> Purchase:
    match = _LINE.fullmatch(line)
    if match is None:
        raise CannotDo(f"row {row} cannot be read: {line[:80]!r}", "expected: customer, YYYYMMDD, pieces, price")
    customer, day, pieces, price = match.groups()
    return Purchase(
        row=row, customer=customer, day=day, pieces=int(pieces), amount_minor=int(Decimal(price).scaleb(_CENTS))
    )

"""A report as CSV (RFC 4180): one row each, amounts as decimals, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Final

from appliance.slip.paper_text import amount
from appliance.till.sheet import Sheet

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would run: such a text gets an apostrophe before it."""


def csv_of(sheet: Sheet, *, heading: str) -> bytes:
    """UTF-8; the first rows say what it is."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["section", "item", "count", "amount", "currency"])
    for line in (heading, sheet.title, *sheet.about):
        writer.writerow(["About", _inert(line), "", "", ""])
    for row in sheet.rows:
        count = "" if row.count is None else row.count
        moved = "" if row.amount_minor is None else amount(row.amount_minor, sheet.currency)
        writer.writerow([_inert(row.section), _inert(row.label), count, moved, sheet.currency if moved else ""])
    return text.getvalue().encode()


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text

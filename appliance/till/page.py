"""A report as lines of a given width: for a terminal window, a printer, a page of paper. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from appliance.model.invariants import ensure
from appliance.slip.paper_text import amount, both_ends, centred, wrapped
from appliance.till.sheet import Row, Sheet

WIDTH_MIN: Final = 24
_AMOUNT_WIDTH_MAX: Final = 14


def report_text(sheet: Sheet, *, width: int, heading: str = "") -> str:
    """`report_lines` as one text."""
    return "\n".join(report_lines(sheet, width=width, heading=heading)) + "\n"


def report_lines(sheet: Sheet, *, width: int, heading: str = "") -> list[str]:
    """`sheet` in lines of at most `width` characters.

    Args:
        heading: stands above, centred: the shop.
    """
    ensure(width >= WIDTH_MIN, f"a report is at least {WIDTH_MIN} characters wide")
    return [line.rstrip() for line in _lines(sheet, width, heading)]


def _lines(sheet: Sheet, width: int, heading: str) -> Iterator[str]:
    for text in (heading, sheet.title, *sheet.about):
        yield from centred(text, width)
    section = ""
    for row in sheet.rows:
        if row.section != section:
            section = row.section
            yield ""
            yield from wrapped(section, width)
            yield "-" * width
        yield from both_ends(row.label, _figures(row, sheet.currency, width), width)
    yield ""
    yield from centred(f"amounts in {sheet.currency}", width)


def _figures(row: Row, currency: str, width: int) -> str:
    """Count and amount, each in its column."""
    count = "" if row.count is None else str(row.count)
    if row.amount_minor is None:
        return count
    return f"{count} {amount(row.amount_minor, currency):>{min(_AMOUNT_WIDTH_MAX, width // 3)}}"

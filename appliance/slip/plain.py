"""A page as plain text, for screens and files.

Owns how a QR code looks in text: drawn where it fits the columns, else its link stands in a line of its own.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import segno

from appliance.ports.printer import Page, Row

_QUIET_MODULES = 2


def plain_text(page: Page, *, width: int) -> str:
    """Rows end without spaces; a link that is longer than a row is left whole, so that it can be copied."""
    return "\n".join(_texts(page, width)) + "\n"


def _texts(page: Page, width: int) -> Iterator[str]:
    for part in page:
        if isinstance(part, Row):
            yield part.text.rstrip()
            continue
        code = segno.make_qr(part.content, error="L", boost_error=False)
        if code.symbol_size(border=_QUIET_MODULES)[0] > width:
            yield part.content
            continue
        drawn = io.StringIO()
        code.terminal(out=drawn, border=_QUIET_MODULES, compact=True)
        yield from drawn.getvalue().rstrip("\n").split("\n")

"""A report as PDF: the report's text on A4 pages, in a font that every reader has.

The same report gives the same bytes: no date, no random id. Letters outside of Windows-1252 become question marks.
"""

from __future__ import annotations

import io
from typing import Final

import pydyf

_A4: Final = (0, 0, 595, 842)
_LINES_PER_PAGE: Final = 64
_FONT_SIZE: Final = 10
_LEADING: Final = 12
_LEFT: Final = 60
_TOP: Final = 790
WIDTH: Final = 78
"""Characters of Courier, 6 points each, between the margins."""


def pdf_of(text: str) -> bytes:
    """`text`, whose lines have at most `WIDTH` characters."""
    lines = text.splitlines()
    document = pydyf.PDF()
    font = pydyf.Dictionary(
        {"Type": "/Font", "Subtype": "/Type1", "BaseFont": "/Courier", "Encoding": "/WinAnsiEncoding"}
    )
    document.add_object(font)
    for start in range(0, len(lines), _LINES_PER_PAGE):
        content = _page(lines[start : start + _LINES_PER_PAGE])
        document.add_object(content)
        document.add_page(
            pydyf.Dictionary(
                {
                    "Type": "/Page",
                    "Parent": document.pages.reference,
                    "MediaBox": pydyf.Array(_A4),
                    "Resources": pydyf.Dictionary({"Font": pydyf.Dictionary({"F1": font.reference})}),
                    "Contents": content.reference,
                }
            )
        )
    file = io.BytesIO()
    document.write(file)
    return file.getvalue()


def _page(lines: list[str]) -> pydyf.Stream:
    content = pydyf.Stream()
    content.begin_text()
    content.set_font_size("F1", _FONT_SIZE)
    content.set_text_matrix(1, 0, 0, 1, _LEFT, _TOP)
    for line in lines:
        content.show_text_string(line.encode("cp1252", "replace"))
        content.move_text_to(0, -_LEADING)
    content.end_text()
    return content

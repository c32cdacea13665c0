"""A report to a file whose ending says how: `.pdf`, `.csv` or `.txt`; or as text for eyes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from appliance.till.page import report_text
from appliance.till.sheet import Sheet
from provisioning.commands.outcome import CannotDo
from provisioning.exports.output import new_file

SCREEN_WIDTH: Final = 64
ENDINGS: Final = (".pdf", ".csv", ".txt")


def add_output(parser: argparse._ActionsContainer) -> None:
    """`-o`: where a report goes; see `require_ending` and `write_report`."""
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="a new file: .pdf, .csv or .txt")


def require_ending(output: Path | None) -> None:
    """Refuse before anything is closed. Raises CannotDo."""
    if output is not None and output.suffix not in ENDINGS:
        raise CannotDo(f"{output} has no ending that says how", f"end the name in {', '.join(ENDINGS)}")
    if output is not None and output.exists():
        raise CannotDo(f"{output} is there already", "name another file, or remove this one")


def write_report(sheet: Sheet, output: Path, *, shop: str) -> None:
    """Write `sheet` to a new file. Raises CannotDo."""
    require_ending(output)
    with new_file(output) as partial:
        partial.write_bytes(_content(sheet, output.suffix, shop))


def _content(sheet: Sheet, ending: str, shop: str) -> bytes:
    if ending == ".csv":
        from provisioning.reports.csv_file import csv_of

        return csv_of(sheet, heading=shop)
    if ending == ".pdf":
        from provisioning.reports.pdf_file import WIDTH, pdf_of

        return pdf_of(report_text(sheet, width=WIDTH, heading=shop))
    return report_text(sheet, width=SCREEN_WIDTH, heading=shop).encode()

"""What the installer of updates tells the process, in a file that only the installer writes.

Source: docs/formats/update.md, "What the installer tells".
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from appliance.wire.requests import Wire

REPORT_BYTES_MAX: Final = 4_096
UPDATE_FILE: Final = "update"
REQUEST_FILE: Final = "request"
"""In the spool: what to install, and the name of the wish to have it installed, which comes last."""
_Version = Annotated[str, msgspec.Meta(max_length=19)]


class Installing(StrEnum):
    """How far it came with the update that was asked for."""

    REFUSED = "refused"  # nothing that can be started was written
    INSTALLED = "installed"  # the next start is the new image's
    TRYING = "trying"  # the new image runs; the old one is still there
    CONFIRMED = "confirmed"  # the boot loader was told that the new image is good
    FELL_BACK = "fell_back"  # the boot loader went back to the image before


class Report(Wire, frozen=True, kw_only=True):
    """About one update.

    Attributes:
        boot: the kernel's name of the boot in which this was written.
        code, detail: why it was refused, or why it fell back.
        asked: the request that this answers.
        number: of the release; 0 where the file could not be read.
        version: of the update; empty likewise.
    """

    boot: Annotated[str, msgspec.Meta(max_length=64)]
    code: Annotated[str, msgspec.Meta(max_length=64)] = ""
    asked: Annotated[str, msgspec.Meta(max_length=64)]
    state: Installing
    detail: Annotated[str, msgspec.Meta(max_length=500)] = ""
    number: int = 0
    version: _Version = ""

"""Settings of updates: where the process and the installer meet. An image's units name the same places."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from appliance.config.section import Section


class Update(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files between the process and the installer of images; outside an image nothing is installed."""

    spool_path: Annotated[Path, Meta(description="Folder in which an update waits for the installer.")] = Path("update")
    report_path: Annotated[Path, Meta(description="What the installer says; it alone writes it.")] = Path(
        "/var/lib/tillstone-update/report.json"
    )
    image_path: Annotated[Path, Meta(description="os-release(5) of the image that runs.")] = Path("/usr/lib/os-release")

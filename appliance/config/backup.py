"""Settings of backups: to whom they are sealed, where they go by themselves, and how many are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from appliance.config.section import RECIPIENT_FILE, Section
from appliance.model.limits import DAY_MS, HOUR_MS


class Backups(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sealed backups of the whole box; without this table none can be made."""

    recipient_path: Annotated[
        Path,
        Meta(
            description="The recovery public key, as `tillstone owner recovery-key` wrote it. The private one stays"
            " offline: whoever has it opens every backup.",
            extra=RECIPIENT_FILE,
            examples=["recovery.key.pub"],
        ),
    ]
    folder: Annotated[
        Path | None,
        Meta(
            description="Where backups go by themselves: another disk, a stick, a share. It must be there: a folder"
            " that is not mounted is no place for a backup. None by default: somebody asks for each.",
            examples=["/media/backup"],
        ),
    ] = None
    every_ms: Annotated[
        int, Meta(ge=HOUR_MS, le=30 * DAY_MS, description="Age of the newest at which the next one is made.")
    ] = DAY_MS
    keep: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000,
            description="How many of this log stay in the folder. A person's data that the box erased is in a backup"
            " until that one is removed.",
        ),
    ] = 7
    late_after_ms: Annotated[
        int,
        Meta(
            ge=HOUR_MS,
            le=365 * DAY_MS,
            description="Without a new one for this long, health says that somebody must look; sales go on.",
        ),
    ] = 3 * DAY_MS

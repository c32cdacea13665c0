"""Settings of escrow: to whom the box seals what it must not be the only one to know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from appliance.config.section import RECIPIENT_FILE, Section


class Escrow(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Terminals keep sealed parcels of the payments whose money is not certain yet; without this table they do not."""

    recipient_path: Annotated[
        Path,
        Meta(
            description="The recovery public key, as `tillstone owner recovery-key` wrote it. The private one stays"
            " offline: whoever has it reads the parcels.",
            extra=RECIPIENT_FILE,
            examples=["recovery.key.pub"],
        ),
    ]

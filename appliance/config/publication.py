"""Settings of publishing: where ranges of the log are kept outside, and who alone may read the entries in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from appliance.config.section import RECIPIENT_FILE, Section, Url
from appliance.model.limits import DAY_MS, HOUR_MS


class Publication(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Checkpoints, hash tiles and entries for the auditor go to an IPFS node; without this table they do not."""

    api_base: Annotated[
        Url,
        Meta(
            description="Address of the node's RPC. It has no password and may do all: this machine, or a tunnel.",
            examples=["http://127.0.0.1:5001"],
        ),
    ]
    recipient_path: Annotated[
        Path,
        Meta(
            description="The auditor's public key, as `tillstone audit key` wrote it; whoever has the private one reads"
            " every entry published from now on.",
            extra=RECIPIENT_FILE,
            examples=["auditor.pub"],
        ),
    ]
    client: Annotated[
        Literal["aiohttp", "ipfshttpclient"],
        Meta(description="ipfshttpclient only where that package is wanted; it has to be installed apart."),
    ] = "aiohttp"
    every_ms: Annotated[
        int,
        Meta(ge=1_000, le=7 * DAY_MS, description="Pause between two rounds, give or take a quarter."),
    ] = HOUR_MS
    deadline_ms: Annotated[
        int,
        Meta(ge=100, le=120_000, description="Of each question to the node; one for a missing block hangs for ever."),
    ] = 30_000
    late_after_ms: Annotated[
        int,
        Meta(
            ge=1_000,
            le=30 * DAY_MS,
            description="Without a round that worked for this long, health says that somebody must look; sales go on.",
        ),
    ] = DAY_MS

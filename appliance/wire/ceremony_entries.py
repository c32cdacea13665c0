"""Body of the entry with which a box's life begins. Source: docs/formats/entry-kinds.md."""

from __future__ import annotations

from typing import Final

from appliance.wire.requests import Wire

PROVISIONED: Final = "provisioned"


class ProvisionedEntry(Wire, frozen=True, kw_only=True):
    """kind `provisioned`: the box was made by a ceremony; `site` is the SHA-256 of what its owner signed for it."""

    site: bytes

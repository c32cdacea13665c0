"""What every table of the settings file is made of: its base, its marks, and types that several tables use."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from appliance.model.limits import MINUTE_MS

SECRET_FILE: Final = {"secret_file": True}
"""Marks a path whose file holds a secret: `load.py` insists on mode 0600 or stricter."""
RECIPIENT_FILE: Final = {"recipient_file": True}
"""Marks a path whose file holds the public key of somebody to whom the box seals: `load.py` insists on one."""
IN_EXAMPLE: Final = {"in_example": True}
"""Marks a setting that may be absent but that the example sets, because a shop needs it."""

KeyIdHex = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{2}){1,32}\Z")]
Url = Annotated[str, Meta(pattern=r"\Ahttps?://[^\s?#@]{1,200}\Z")]
Host = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z.:_-]{1,253}\Z")]
Port = Annotated[int, Meta(ge=0, le=65535)]
DoorPort = Annotated[Port, Meta(description="TCP port; 0 takes any free one.")]
PlainHost = Annotated[Host, Meta(description="Address to listen on; plain HTTP, so this machine alone by default.")]
CustomerWait = Annotated[int, Meta(ge=10_000, le=30 * MINUTE_MS)]
"""How long a customer may be busy at a provider's address, in milliseconds."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file."""

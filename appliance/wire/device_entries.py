"""Bodies of the entries about the device's own life. Source: docs/formats/entry-kinds.md, "Kinds of the box"."""

from __future__ import annotations

from typing import Final

from appliance.wire.requests import Wire

DEVICE_STATE: Final = "device_state"


class DeviceStateEntry(Wire, frozen=True, kw_only=True):
    """kind `device_state`: the box is in `state` from here on (model/device_state.py), `before` in another.

    With cause `lock`, `tamper` or `unlock` the two may be equal: a lock stands behind a worse state.
    """

    cause: str
    state: str
    before: str
    reason: str = ""

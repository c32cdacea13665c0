"""Bodies of the entries about the device's own life. Source: docs/formats/entry-kinds.md, "Kinds of the box"."""

from __future__ import annotations

from typing import Final

from appliance.wire.requests import Wire

DEVICE_STATE: Final = "device_state"
CLOCK_MARK: Final = "clock_mark"
CLOCK_SET: Final = "clock_set"


class DeviceStateEntry(Wire, frozen=True, kw_only=True):
    """kind `device_state`: the box is in `state` from here on (model/device_state.py), `before` in another.

    With cause `lock`, `tamper` or `unlock` the two may be equal: a lock stands behind a worse state.
    """

    cause: str
    state: str
    before: str
    reason: str = ""


class ClockMarkEntry(Wire, frozen=True, kw_only=True):
    """kind `clock_mark`: the TPM's clock as it was at this entry's time (drivers/tpm/clock.py), all in milliseconds.

    `unproven`: so much may have passed without power since what can be proven.
    """

    safe: bool
    resets: int
    powered: int
    unproven: int = 0


class ClockSetEntry(Wire, frozen=True, kw_only=True):
    """kind `clock_set`: at a start the wall clock is this far outside of what `proof` allows; negative: set back.

    With proof `operator` it is accepted as it is: the box goes by it again.
    """

    proof: str
    step_ms: int

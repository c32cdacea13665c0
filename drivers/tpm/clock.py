"""The TPM's own clock (TPM 2.0 part 1, 36): time under power since it was made, and how often it was started anew.

It cannot be set back and stands still without power, so it bounds the time that passed from below. Its rate may be off
by 15 % (part 1, 36.3), and after a cut it may resume some minutes earlier: then `is_safe` is false.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.tpm.context import TpmContext


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """One reading.

    Attributes:
        clock_ms: rises while the TPM has power.
        resets: starts from cold (TPM2_Startup with CLEAR after an orderly or a lost end).
        restarts: resumptions since the last of them.
        is_safe: false while the clock may be behind what it told before power was lost.
    """

    clock_ms: int
    resets: int
    restarts: int
    is_safe: bool


def read_clock(tpm: TpmContext) -> ClockReading:
    """Read it."""
    with tpm.commands() as esapi:
        info = esapi.read_clock().clockInfo
        return ClockReading(
            clock_ms=int(info.clock),
            resets=int(info.resetCount),
            restarts=int(info.restartCount),
            is_safe=bool(info.safe),
        )

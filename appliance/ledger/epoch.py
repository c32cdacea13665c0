"""Epochs: the log's count against the TPM's, at each start.

Owns the comparison. Must never touch the counter: the caller increments it only after the `epoch` entry is durable and
signed, so the counter is never ahead of an honest log.

* A log restored from yesterday's disk image is behind the counter; a counter that was cleared is behind the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from appliance.crypto import cbor
from appliance.ledger.entry import ENTRY_BYTES_MAX
from appliance.model.errors import Corrupt
from appliance.model.invariants import ensure

KIND = "epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fine:
    """Counter and log agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment:
    """Power failed between the entry and the counter: increment it once, to `to`."""

    to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """The log or the counter was rolled back, or one of them is another box's: no sale before a person has looked."""

    reason: str


Comparison: TypeAlias = Fine | Increment | Quarantine


def compare_epoch(counter: int, log: int) -> Comparison:
    """What the counter's value says about a log whose newest epoch entry is `log`."""
    if counter == log:
        return Fine()
    if counter == log - 1:
        return Increment(to=log)
    if counter > log:
        return Quarantine(reason=f"the counter is at {counter}, the log at {log}: the log is older than it was")
    return Quarantine(reason=f"the counter is at {counter}, the log at {log}: the counter is not this log's")


def epoch_body(number: int) -> bytes:
    """Body of an `epoch` entry."""
    ensure(number > 0, "epochs count from 1")
    return cbor.encode({"epoch": number})


def read_epoch(body: bytes) -> int:
    """The number of an `epoch` body; raises Corrupt `epoch_malformed`."""
    match cbor.decode(body, size_max=ENTRY_BYTES_MAX):
        case {"epoch": int(number), **rest} if not rest and number > 0:
            return number
        case _:
            raise Corrupt("epoch_malformed", "expected an `epoch` body of one positive number")

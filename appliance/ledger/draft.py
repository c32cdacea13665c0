"""What callers bring to the ledger, and what they get back.

Owns the values on both sides of an append. Must never hold a connection or a decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from appliance.crypto.disclosure import SALT_SIZE, commit
from appliance.ledger.entry import EntryHash
from appliance.model.invariants import ensure


class Purpose(Enum):
    """Why something is appended or read: decides who gets the last 256 MB of the disk."""

    INTENT = "intent"
    """Starts something new: refused while room is short or signing lags."""
    OUTCOME = "outcome"
    """Ends or repairs something begun: may use all of the disk, and no read for it is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """A value that stays out of the entry: the body holds SHA-256(salt || value), the value can be erased.

    Attributes:
        name: which field of the body it opens; unique within the entry.
        subject: opaque id of the person it is about; None uses the box's own rolling subject of the day.
        salt: 16 random bytes.
    """

    name: str
    salt: bytes
    value: bytes
    subject: str | None = None

    def __post_init__(self) -> None:
        ensure(len(self.salt) == SALT_SIZE, "a disclosure's salt is 16 bytes")

    @property
    def commitment(self) -> bytes:
        """What stands in the body."""
        return commit(self.salt, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An entry before it has a place. `body` is deterministic CBOR and holds each disclosure's commitment."""

    kind: str
    actor: str
    time_ms: int
    body: bytes
    disclosures: tuple[Disclosure, ...] = ()

    def __post_init__(self) -> None:
        for disclosure in self.disclosures:
            ensure(disclosure.commitment in self.body, "a body holds the commitment of each of its disclosures")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A durable entry: fsynced before anyone sees this."""

    seq: int
    time_ms: int
    entry: bytes
    entry_hash: EntryHash


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEntry:
    """An entry as projections and followers read it.

    Attributes:
        disclosures: those that survive.
        read: the body by shape, for projections that want the same one: each is decoded once, on the writer's thread.
    """

    seq: int
    time_ms: int
    kind: str
    actor: str
    body: bytes
    disclosures: tuple[Disclosure, ...] = ()
    read: dict[type, object] = field(default_factory=dict, repr=False, compare=False)

"""OpenTimestamps proofs as a tree of hash steps, from a digest to what vouches for its age.

A timestamp is a tree: it begins with a message, each step turns a message into the next one, and an attestation says
what vouches for a message: a block whose Merkle root it is, or a calendar that promises to put it into one.

* Pure: it reads no clock and no network. What a block's header says is `evidence/block.py`'s.
* Three steps are known: SHA-256, append, prepend. Calendars and Bitcoin need no others; a proof that leans on SHA-1 or
  Keccak is refused, not half believed.

Source: docs/formats/timestamp.md; https://opentimestamps.org and its reference implementation, python-opentimestamps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from appliance.model.invariants import ensure


class Operation(IntEnum):
    """What a step does to a message; the number is its byte in a file."""

    SHA256 = 0x08
    APPEND = 0xF0
    PREPEND = 0xF1


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Step:
    """One operation with its operand, which SHA-256 does not have."""

    operation: Operation
    operand: bytes = b""

    def __post_init__(self) -> None:
        ensure(
            bool(self.operand) == (self.operation is not Operation.SHA256), "only append and prepend have an operand"
        )

    def apply(self, message: bytes) -> bytes:
        """The next message."""
        match self.operation:
            case Operation.SHA256:
                return hashlib.sha256(message).digest()
            case Operation.APPEND:
                return message + self.operand
            case Operation.PREPEND:
                return self.operand + message


SHA256: Final = Step(operation=Operation.SHA256)


def append(operand: bytes) -> Step:
    return Step(operation=Operation.APPEND, operand=operand)


def prepend(operand: bytes) -> Step:
    return Step(operation=Operation.PREPEND, operand=operand)


@dataclass(frozen=True, slots=True, kw_only=True)
class InBlock:
    """The message is the Merkle root, in the header's byte order, of the Bitcoin block at `height`."""

    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """The calendar at `uri` will say more when asked for the message."""

    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """Something that we do not read vouches for the message, another chain perhaps. It is carried along."""

    tag: bytes
    payload: bytes


Attestation = InBlock | Promised | Foreign


@dataclass(frozen=True, slots=True, kw_only=True)
class Timestamp:
    """What vouches for `message`, directly or behind further steps; at least one attestation lies at every end."""

    message: bytes
    attestations: frozenset[Attestation] = frozenset()
    branches: tuple[Branch, ...] = ()

    def claims(self) -> Iterator[tuple[bytes, Attestation]]:
        """Every attestation with the message it vouches for."""
        for attestation in self.attestations:
            yield self.message, attestation
        for branch in self.branches:
            yield from branch.rest.claims()


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A step and what follows it."""

    step: Step
    rest: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A `.ots` file: what vouches for the SHA-256 of a file."""

    timestamp: Timestamp

    @property
    def digest(self) -> bytes:
        return self.timestamp.message


def timestamp_through(message: bytes, steps: Sequence[Step], end: Attestation | Timestamp) -> Timestamp:
    """The timestamp from `message` through `steps` to what vouches for the last message, or to that one's timestamp."""
    messages = [message]
    for step in steps:
        messages.append(step.apply(messages[-1]))
    last = messages.pop()
    timestamp = end if isinstance(end, Timestamp) else Timestamp(message=last, attestations=frozenset({end}))
    ensure(timestamp.message == last, "the steps lead to the message of the timestamp behind them")
    for step in reversed(steps):
        timestamp = Timestamp(message=messages.pop(), branches=(Branch(step=step, rest=timestamp),))
    return timestamp


def merged(one: Timestamp, other: Timestamp) -> Timestamp:
    """Both timestamps of the same message as one."""
    ensure(one.message == other.message, "only timestamps of one message merge")
    rests = {branch.step: branch.rest for branch in one.branches}
    for branch in other.branches:
        known = rests.get(branch.step)
        rests[branch.step] = branch.rest if known is None else merged(known, branch.rest)
    return Timestamp(
        message=one.message,
        attestations=one.attestations | other.attestations,
        branches=tuple(Branch(step=step, rest=rests[step]) for step in sorted(rests)),
    )


def without(timestamp: Timestamp, is_unwanted: Callable[[Attestation], bool]) -> Timestamp | None:
    """`timestamp` without some attestations and the paths that led to them alone; None when nothing is left."""
    attestations = frozenset(each for each in timestamp.attestations if not is_unwanted(each))
    rests = ((branch.step, without(branch.rest, is_unwanted)) for branch in timestamp.branches)
    branches = tuple(Branch(step=step, rest=rest) for step, rest in rests if rest is not None)
    if not attestations and not branches:
        return None
    return Timestamp(message=timestamp.message, attestations=attestations, branches=branches)


def grafted(timestamp: Timestamp, more: Timestamp) -> Timestamp:
    """`timestamp` with `more` merged in wherever its message occurs; unchanged when it occurs nowhere."""
    if timestamp.message == more.message:
        return merged(timestamp, more)
    branches = tuple(replace(branch, rest=grafted(branch.rest, more)) for branch in timestamp.branches)
    return replace(timestamp, branches=branches)

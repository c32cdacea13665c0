"""The life of the device: its states, who may do what in each, and which state may follow which, for what cause.

The two tables are the whole truth: admission, doors, projection, documentation and tests read them. Where several
states hold at once (a locked box whose log is in doubt) a person is told the worst, and an act is allowed only where
each of them allows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.model.errors import Unavailable
from appliance.model.invariants import ensure


class DeviceState(StrEnum):
    """How the box is, the worst last; the order decides which of several is told."""

    UNPROVISIONED = "unprovisioned"  # no keys of its own yet: there is no log, and the process does not run
    OPERATIONAL = "operational"
    DEGRADED = "degraded"  # sells with something missing: the TPM, the printer, the HSM for a while
    LOCKED = "locked"  # by an operator, or by the tamper contact
    QUARANTINED = "quarantined"  # evidence that the log is not the one that others saw
    FAILED = "failed"  # a part that does not come back without a person
    RETIRED = "retired"  # its keys are destroyed, or about to be


class Act(StrEnum):
    """What may be done with a box."""

    SELL = "sell"
    UNDO = "undo"  # refund, reverse, abort
    FINISH = "finish"  # bring to its end what was begun: money never hangs because of a state
    READ = "read"
    PAIR = "pair"
    UPDATE = "update"
    BACK_UP = "back up"
    LOCK = "lock"
    UNLOCK = "unlock"
    PROVISION = "provision"
    RETIRE = "retire"


class Role(StrEnum):
    """Who acts."""

    TERMINAL = "terminal"
    OPERATOR = "operator"  # whoever runs the box, at its local door
    OWNER = "owner"  # who holds the offline key
    BOX = "box"  # the process by itself


class Cause(StrEnum):
    """Why a state began."""

    START = "start"  # the process started and found it so
    WELL = "well"  # nothing is missing any more
    MISSING = "missing"
    FAULT = "fault"
    EVIDENCE = "evidence"
    LOCK = "lock"
    UNLOCK = "unlock"
    TAMPER = "tamper"
    RETIRE = "retire"


_TERMINAL: Final = frozenset({Role.TERMINAL})
_OPERATOR: Final = frozenset({Role.OPERATOR})
_OWNER: Final = frozenset({Role.OPERATOR, Role.OWNER})
_BOX: Final = frozenset({Role.BOX})
_LOCAL: Final = frozenset({Role.OPERATOR, Role.BOX})
_ALL: Final = frozenset(Role)

_SELLING: Final = {
    Act.SELL: _TERMINAL,
    Act.UNDO: _TERMINAL,
    Act.FINISH: _BOX,
    Act.READ: _ALL,
    Act.PAIR: _OPERATOR,
    Act.UPDATE: _LOCAL,
    Act.BACK_UP: _LOCAL,
    Act.LOCK: _LOCAL,
    Act.RETIRE: _LOCAL,
}
MAY: Final[dict[DeviceState, dict[Act, frozenset[Role]]]] = {
    DeviceState.UNPROVISIONED: {Act.PROVISION: _OWNER},
    DeviceState.OPERATIONAL: _SELLING,
    DeviceState.DEGRADED: _SELLING,
    DeviceState.LOCKED: {
        Act.FINISH: _BOX,
        Act.READ: _ALL,
        Act.BACK_UP: _LOCAL,
        Act.LOCK: _LOCAL,
        Act.UNLOCK: _OPERATOR,
        Act.RETIRE: _LOCAL,
    },
    # Nothing is given back either: a log that lost its end may have forgotten that the money went back already.
    DeviceState.QUARANTINED: {
        Act.FINISH: _BOX,
        Act.READ: _ALL,
        Act.PAIR: _OPERATOR,
        Act.BACK_UP: _LOCAL,
        Act.LOCK: _LOCAL,
        Act.UNLOCK: _OPERATOR,
        Act.RETIRE: _LOCAL,
    },
    DeviceState.FAILED: {
        Act.UNDO: _TERMINAL,
        Act.FINISH: _BOX,
        Act.READ: _ALL,
        Act.UPDATE: _LOCAL,
        Act.BACK_UP: _LOCAL,
        Act.LOCK: _LOCAL,
        Act.UNLOCK: _OPERATOR,
        Act.RETIRE: _LOCAL,
    },
    DeviceState.RETIRED: {Act.READ: _OWNER, Act.RETIRE: _LOCAL},
}

_LIVE: Final = {
    DeviceState.OPERATIONAL: frozenset({Cause.START, Cause.WELL, Cause.UNLOCK}),
    DeviceState.DEGRADED: frozenset({Cause.START, Cause.MISSING, Cause.UNLOCK}),
    DeviceState.LOCKED: frozenset({Cause.START, Cause.LOCK, Cause.TAMPER}),
    DeviceState.QUARANTINED: frozenset({Cause.START, Cause.EVIDENCE}),
    DeviceState.FAILED: frozenset({Cause.START, Cause.FAULT}),
    DeviceState.RETIRED: frozenset({Cause.RETIRE, Cause.TAMPER}),
}
NEXT: Final[dict[DeviceState, dict[DeviceState, frozenset[Cause]]]] = {
    DeviceState.UNPROVISIONED: {state: causes & {Cause.START} for state, causes in _LIVE.items()},
    DeviceState.OPERATIONAL: _LIVE,
    DeviceState.DEGRADED: _LIVE,
    DeviceState.LOCKED: _LIVE,
    # Evidence against the log is never taken back by the process that saw it: only a start finds it gone.
    DeviceState.QUARANTINED: {state: causes & {Cause.START} for state, causes in _LIVE.items()}
    | {state: _LIVE[state] for state in (DeviceState.FAILED, DeviceState.RETIRED)},
    DeviceState.FAILED: _LIVE,
    DeviceState.RETIRED: {},
}

_CODES: Final = {
    DeviceState.UNPROVISIONED: "device_unprovisioned",
    DeviceState.LOCKED: "device_locked",
    DeviceState.QUARANTINED: "quarantined",
    DeviceState.FAILED: "device_failed",
    DeviceState.RETIRED: "device_retired",
}
_WORDS: Final = {
    DeviceState.UNPROVISIONED: "this box was not set up yet",
    DeviceState.LOCKED: "this box is locked: it takes no sales and gives nothing back",
    DeviceState.QUARANTINED: "this box takes no sales and gives nothing back",
    DeviceState.FAILED: "this box takes no sales until a person has mended it",
    DeviceState.RETIRED: "this box is retired: it never sells again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A state that holds now, with the reason for people."""

    state: DeviceState
    reason: str


def worst(conditions: Iterable[Condition]) -> Condition:
    """What a person is told; a box without any condition is operational."""
    order = list(DeviceState)
    well = Condition(state=DeviceState.OPERATIONAL, reason="")
    return max((well, *conditions), key=lambda condition: order.index(condition.state))


def may(state: DeviceState, act: Act, role: Role) -> bool:
    """Whether the table lets `role` do `act`."""
    return role in MAY[state].get(act, frozenset())


def require(conditions: Iterable[Condition], act: Act, role: Role) -> None:
    """Return when every condition lets `role` do `act`.

    Raises:
        Unavailable: `device_locked`, `quarantined`, `device_failed`, `device_retired`, `device_unprovisioned`, by the
            worst condition that does not.
    """
    against = [condition for condition in conditions if not may(condition.state, act, role)]
    if against:
        told = worst(against)
        raise Unavailable(_CODES[told.state], f"{_WORDS[told.state]}: {told.reason}")


def follow(before: DeviceState, after: DeviceState, cause: Cause) -> DeviceState:
    """`after`, if the table allows it after `before` for that cause; else a bug."""
    allowed = NEXT[before].get(after, frozenset())
    ensure(before == after or cause in allowed, f"a device goes from {before} to {after} not for the cause {cause}")
    return after

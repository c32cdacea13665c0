"""What a planted bug is, and the table of them all; `bugs.py` fills it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Plant = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One wrong function.

    Attributes:
        what: the sentence that its author would defend it with.
        seed: a world that caught it once; where it does no more, others are searched.
    """

    name: str
    what: str
    seed: int
    plant: Plant


BUGS: Final[dict[str, Bug]] = {}


def bug(what: str, *, seed: int) -> Callable[[Plant], Plant]:
    def keep(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", "-")
        BUGS[name] = Bug(name=name, what=what, seed=seed, plant=plant)
        return plant

    return keep


def put(owner: Any, **wrong: object) -> None:
    """Replace functions of a class or a module by their wrong twins."""
    for name, twin in wrong.items():
        getattr(owner, name)  # a renamed function must not leave its bug behind unplanted
        setattr(owner, name, twin)

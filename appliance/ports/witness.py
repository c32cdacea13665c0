"""A witness: somebody outside who remembers how large our log was, and vouches for the largest head it has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """It vouches for the head and has committed it; `lines` are its signature lines, not verified yet."""

    lines: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherHead:
    """The head that it cosigned last is another than the caller assumed: one of `size` entries.

    When `size` is the caller's assumption and the submitted size at once, the two heads have different roots.
    """

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotConsistent:
    """The proof does not lead from the head that it cosigned last to the submitted one."""


Answer: TypeAlias = Cosigned | OtherHead | NotConsistent


class Witness(Protocol):
    """One witness."""

    @property
    def name(self) -> str:
        """The name that its signature lines carry."""
        ...

    async def add_checkpoint(self, *, old_size: int, proof: Sequence[bytes], note: bytes) -> Answer:
        """Ask for cosignatures of the head in `note`; asking twice is asking once.

        Args:
            old_size: entries of the head that it cosigned last, 0 for none.
            proof: that the note's head extends the one of `old_size`; empty when that is 0 or the same size.
        Raises:
            Unavailable: no usable answer in time; it may have cosigned, the same question finds out.
            Rejected: `witness_refused`: it does not know this log or its keys; a person must act.
        """
        ...

    async def latest_checkpoint(self, origin: str) -> bytes:
        """The newest checkpoint of the log that it cosigned, as it shows it: at most 64 kB, nothing of it verified.

        Raises:
            Unavailable: `witness_away`: it shows none, or not in time.
        """
        ...

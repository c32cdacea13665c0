"""Parcels out of terminals' homes and files: gathered, opened with the recovery key, and judged against each other.

Must never take an older parcel for the newest: what it lists as waiting may have ended since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.ledger.entry import Entry
from appliance.ledger.parcel import PARCEL_BYTES_MAX, OpenedParcel, open_parcel, read_header
from appliance.ledger.trust import Trust
from appliance.model.errors import Rejected
from appliance.wire.escrow_entries import ESCROWED
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import CannotDo
from provisioning.terminal.escrow import kept_parcels
from provisioning.terminal.home import TerminalHome

SUFFIX: Final = ".parcel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A parcel where it was found; nothing is proven about it yet."""

    place: Path
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The newest genuine parcel.

    Attributes:
        refused: of every other: where it lies, and the code and detail that refuse it.
        seen_size: the largest log that a terminal has a verified receipt of; 0 where no home was given.
    """

    parcel: OpenedParcel
    place: Path
    refused: tuple[tuple[Path, Rejected], ...]
    seen_size: int

    @property
    def entries_after(self) -> int:
        """How many entries the log got after the parcel, as far as a terminal knows."""
        return max(0, self.seen_size - self.parcel.header.size)

    @property
    def waiting(self) -> tuple[Entry, ...]:
        """The entries of the payments that wait, in the order of the log."""
        seqs = sorted({seq for each in self.parcel.manifest.waiting for seq in each.seqs})
        return tuple(self.parcel.entries[seq] for seq in seqs)


def gather(places: Iterable[Path]) -> tuple[Found, ...]:
    """Every parcel in `places`: files, folders of files, and terminals' homes. Raises CannotDo."""
    found = []
    for place in places:
        for path in _files(place):
            found.append(Found(place=path, content=read_named(path, PARCEL_BYTES_MAX)))
    if not found:
        raise CannotDo("no parcel was found", "name terminals' homes, folders with .parcel files, or such files")
    return tuple(found)


def judge(found: Sequence[Found], seed: bytes, trust: Trust, *, seen_size: int = 0) -> Judged:
    """The newest genuine parcel of one log.

    Raises:
        Rejected: what refuses the newest, where none is genuine; `escrow_ambiguous`: they are of several logs.
    """
    origins = {log_id: statement.origin for log_id, statement in trust.logs.items()}
    genuine: list[tuple[Found, OpenedParcel]] = []
    refused: list[tuple[Path, Rejected]] = []
    for each in found:
        try:
            genuine.append((each, open_parcel(each.content, seed, trust.keys, origins, ESCROWED)))
        except Rejected as refusal:
            refused.append((each.place, refusal))
    if not genuine:
        raise refused[-1][1]
    if len({parcel.log_id for _, parcel in genuine}) > 1:
        raise Rejected("escrow_ambiguous", "these parcels are of several logs: name those of one box")
    place, newest = max(genuine, key=lambda each: each[1].header.size)
    stale = Rejected("escrow_stale", f"a newer parcel is here, of {newest.header.size} entries: {place.place}")
    refused += [(each.place, stale) for each, parcel in genuine if parcel.header.size < newest.header.size]
    return Judged(parcel=newest, place=place.place, refused=tuple(refused), seen_size=seen_size)


def seen_by(places: Iterable[Path]) -> int:
    """Size of the largest head that a terminal among `places` has verified."""
    homes = [TerminalHome(folder=place) for place in places if (place / "terminal.json").is_file()]
    seen = (home.memory().seen for home in homes)
    return max((each.size for each in seen if each is not None), default=0)


def name_of(found: Found) -> str:
    """A name for the file that says which parcel it is; as it says of itself. Raises Rejected `escrow_malformed`."""
    header = read_header(found.content)
    return f"{header.origin.replace('/', '_')}-{header.size:012}{SUFFIX}"


def _files(place: Path) -> list[Path]:
    if (place / "terminal.json").is_file():
        return kept_parcels(TerminalHome(folder=place))
    if place.is_dir():
        return sorted(path for path in place.iterdir() if path.suffix == SUFFIX)
    return [place]

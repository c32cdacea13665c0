"""Two slots on one disk, each a root and its hash tree: which one runs, and writing into the other.

Owns the border: nothing here writes outside the slot that does not run. A slot's identifiers are the halves of its root
hash (Discoverable Partitions Specification), so that `roothash=` on the kernel's command line finds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from drivers.slots.blocks import Blocks
from drivers.slots.errors import SlotFull, SlotsForeign
from drivers.slots.partitions import Partition, PartitionTable

_READ_BYTES: Final = 1 << 20
# Of x86-64.
_ROOT: Final = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
_VERITY: Final = UUID("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A root and its hash tree."""

    root: Partition
    verity: Partition


class Slots:
    """The slots of a disk, seen from the one that runs."""

    def __init__(self, blocks: Blocks, running_root_hash: bytes) -> None:
        """Find them. Raises SlotsForeign: the running slot is not there, or beside it is not exactly one other."""
        self._blocks = blocks
        self._table = PartitionTable(blocks)
        self.running, self.other = _pair(self._table.partitions, running_root_hash)

    def write(self, part: str, offset: int, content: bytes) -> None:
        """Write into `root` or `verity` of the other slot. Raises SlotFull before anything is written outside it."""
        partition = self._part(part)
        if offset < 0 or offset + len(content) > partition.size:
            raise SlotFull(f"the {part} of a slot has {partition.size} bytes; more were to be written")
        self._blocks.write(partition.offset + offset, content)

    def sync(self) -> None:
        """What was written is on the medium."""
        self._blocks.sync()

    def sha256(self, part: str, size: int) -> bytes:
        """Of the first `size` bytes of `root` or `verity` of the other slot, as the disk gives them back."""
        partition = self._part(part)
        digest = hashlib.sha256()
        for begins in range(0, size, _READ_BYTES):
            digest.update(self._blocks.read(partition.offset + begins, min(_READ_BYTES, size - begins)))
        return digest.digest()

    def name_other(self, name: str, root_hash: bytes) -> None:
        """From now on the other slot is found by `root_hash`, and called `name`."""
        root_id, verity_id = identifiers(root_hash)
        self._table.rename(
            {self.other.root.index: (name, root_id), self.other.verity.index: (f"{name}_verity", verity_id)}
        )
        self.running, self.other = _pair(self._table.partitions, root_hash)[::-1]

    def _part(self, part: str) -> Partition:
        return {"root": self.other.root, "verity": self.other.verity}[part]


def identifiers(root_hash: bytes) -> tuple[UUID, UUID]:
    """Of the root and of its hash tree."""
    return UUID(bytes=root_hash[:16]), UUID(bytes=root_hash[16:])


def _pair(partitions: Sequence[Partition], root_hash: bytes) -> tuple[Slot, Slot]:
    root_id, verity_id = identifiers(root_hash)
    roots = sorted([each for each in partitions if each.kind == _ROOT], key=lambda each: each.identifier != root_id)
    trees = sorted([each for each in partitions if each.kind == _VERITY], key=lambda each: each.identifier != verity_id)
    if [each.identifier == root_id for each in roots] == [True, False] and (
        [each.identifier == verity_id for each in trees] == [True, False]
    ):
        return Slot(root=roots[0], verity=trees[0]), Slot(root=roots[1], verity=trees[1])
    raise SlotsForeign("expected the running slot and exactly one other on the disk")

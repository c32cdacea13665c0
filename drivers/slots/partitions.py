"""The partition table (GPT, UEFI 2.10 section 5.3): read it, and give partitions another name and identifier.

Owns its bytes. Must never move a partition, make one or remove one.

- Both copies are checked by their sums; the first that is right is believed.
- The copy at the disk's end is written and synced before the first one is touched: whenever the power goes, at least
  one of them is whole, and says either all of the old or all of the new.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from drivers.slots.blocks import Blocks
from drivers.slots.errors import SlotsForeign

NAME_CHARACTERS_MAX: Final = 36
_SECTORS: Final = (512, 4096)
_SIGNATURE: Final = b"EFI PART"
_HEADER: Final = struct.Struct("<8s4sIIIQQQQ16sQIII")
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_ENTRIES_MAX: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition.

    Attributes:
        index: its place in the table, from 0.
        kind: the type's GUID.
        identifier: its own GUID.
        offset, size: bytes.
    """

    index: int
    kind: UUID
    identifier: UUID
    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    sector: int
    fields: tuple[bytes, bytes, int, int, int, int, int, int, int, bytes, int, int, int, int]

    @property
    def size(self) -> int:
        return self.fields[2]

    @property
    def lba(self) -> int:
        return self.fields[5]

    @property
    def other_lba(self) -> int:
        return self.fields[6]

    @property
    def entries_offset(self) -> int:
        return self.fields[10] * self.sector

    @property
    def entry_size(self) -> int:
        return self.fields[12]

    @property
    def entries_size(self) -> int:
        return self.fields[11] * self.fields[12]


class PartitionTable:
    """The table of one disk."""

    def __init__(self, blocks: Blocks) -> None:
        """Read it. Raises SlotsForeign: neither copy is right."""
        self._blocks = blocks
        self._header, self._entries = _read(blocks)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """Those in use."""
        header = self._header
        found = []
        for index in range(header.entries_size // header.entry_size):
            kind, identifier, first, last, _, name = _ENTRY.unpack_from(self._entries, index * header.entry_size)
            if any(kind):
                found.append(
                    Partition(
                        index=index,
                        kind=UUID(bytes_le=kind),
                        identifier=UUID(bytes_le=identifier),
                        name=name.decode("utf-16-le").split("\0", 1)[0],
                        offset=first * header.sector,
                        size=(last - first + 1) * header.sector,
                    )
                )
        return tuple(found)

    def rename(self, renamed: Mapping[int, tuple[str, UUID]]) -> None:
        """Give the partitions of these indexes another name and identifier, all of them or none."""
        entries = bytearray(self._entries)
        for index, (name, identifier) in renamed.items():
            at = index * self._header.entry_size
            kind, _, first, last, attributes, _ = _ENTRY.unpack_from(entries, at)
            _ENTRY.pack_into(entries, at, kind, identifier.bytes_le, first, last, attributes, _name(name))
        changed = bytes(entries)
        first_lba, second_lba = sorted((self._header.lba, self._header.other_lba))
        # The entries of the copy end where its header begins (5.3.1); those of the first follow its header.
        sectors = -(-len(changed) // self._header.sector)
        self._put(second_lba, first_lba, second_lba - sectors, changed)
        self._put(first_lba, second_lba, self._first_entries_lba(first_lba), changed)
        self._header, self._entries = _read(self._blocks)

    def _first_entries_lba(self, first_lba: int) -> int:
        own = self._header
        return own.fields[10] if own.lba == first_lba else first_lba + 1

    def _put(self, lba: int, other_lba: int, entries_lba: int, entries: bytes) -> None:
        header = self._header
        fields = list(header.fields)
        fields[3], fields[5], fields[6], fields[10], fields[13] = 0, lba, other_lba, entries_lba, zlib.crc32(entries)
        blank = _HEADER.pack(*fields)
        fields[3] = zlib.crc32(blank.ljust(header.size, b"\0"))
        content = _HEADER.pack(*fields).ljust(header.sector, b"\0")
        self._blocks.write(entries_lba * header.sector, entries)
        self._blocks.write(lba * header.sector, content)
        self._blocks.sync()


def _read(blocks: Blocks) -> tuple[_Header, bytes]:
    for sector in _SECTORS:
        for lba in (1, blocks.size // sector - 1):
            header = _header_at(blocks, sector, lba)
            entries = None if header is None else _entries_of(blocks, header)
            if header is not None and entries is not None:
                return header, entries
    raise SlotsForeign("the disk has no partition table that is whole")


def _header_at(blocks: Blocks, sector: int, lba: int) -> _Header | None:
    content = blocks.read(lba * sector, sector)
    fields = _HEADER.unpack_from(content)
    header = _Header(sector=sector, fields=fields)
    if fields[0] != _SIGNATURE or not _HEADER.size <= header.size <= sector or header.lba != lba:
        return None
    if header.entry_size < _ENTRY.size or header.entries_size > _ENTRIES_MAX * _ENTRY.size:
        return None
    blank = content[:16] + bytes(4) + content[20 : header.size]
    return header if zlib.crc32(blank) == fields[3] else None


def _entries_of(blocks: Blocks, header: _Header) -> bytes | None:
    entries = blocks.read(header.entries_offset, header.entries_size)
    return entries if zlib.crc32(entries) == header.fields[13] else None


def _name(name: str) -> bytes:
    if len(name) > NAME_CHARACTERS_MAX:
        raise ValueError(f"a partition's name has at most {NAME_CHARACTERS_MAX} characters, got {len(name)}")
    return name.encode("utf-16-le").ljust(2 * NAME_CHARACTERS_MAX, b"\0")

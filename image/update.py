"""`update`: the image as an unsigned update file, for its owner to sign (`tillstone owner update`).

Owns what of a disk goes into it. Source: appliance/docs/formats/update.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from appliance.crypto.owner import SignedStatement
from appliance.evidence.update import PARTS, UpdatePart, UpdateStatement, read_update_statement
from appliance.evidence.update_file import chunks, head_of
from drivers.slots.blocks import DiskBlocks
from drivers.slots.partitions import PartitionTable
from image.definition import IMAGE_NAME, MODEL, lock_time, version
from image.disk import Disk

NAME: Final = "update"
UNNUMBERED: Final = 1
"""The owner gives the release its number."""
_PIECE_BYTES: Final = 1 << 20


def write_update(folder: Path, *, disk: Disk) -> Path:
    """Write it beside the disk; the same image gives the same bytes, signatures apart."""
    parts = {}
    for part in PARTS:
        digest, size = hashlib.sha256(), 0
        for piece in _content(disk, part):
            digest.update(piece)
            size += len(piece)
        parts[part] = UpdatePart(size=size, sha256=digest.digest())
    statement = UpdateStatement(
        model=MODEL,
        version=version(),
        number=UNNUMBERED,
        root_hash=bytes.fromhex(disk.root_hash),
        # The process opens the token's PIN once the start is over: the last phase that is measured.
        pcr11=bytes.fromhex(list(disk.pcr11.values())[-1]),
        parts=parts,
        policies=(),
        created_ms=lock_time() * 1000,
    ).encode()
    read_update_statement(statement)  # what a box would refuse stops the build
    update = folder / NAME
    with update.open("wb") as file:
        file.write(head_of(SignedStatement(statement=statement, owner_signature=b"")))
        for part in PARTS:
            for piece in _content(disk, part):
                file.write(piece)
    return update


def _content(disk: Disk, part: str) -> Iterator[bytes]:
    if part == "uki":
        with disk.uki.open("rb") as file:
            yield from chunks(file)
        return
    name = f"{IMAGE_NAME}_{version()}" + ("_verity" if part == "verity" else "")
    with closing(DiskBlocks(disk.raw)) as blocks:
        (partition,) = [each for each in PartitionTable(blocks).partitions if each.name == name]
        for begins in range(0, partition.size, _PIECE_BYTES):
            yield blocks.read(partition.offset + begins, min(_PIECE_BYTES, partition.size - begins))

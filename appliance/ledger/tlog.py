"""C2SP paths and files: where a tile lies, how a bundle of entries and a proof are written.

Owns three formats, each pure. Must never read storage (archive.py) or sign (checkpoint.py).

Source: docs/formats/tiles.md; https://c2sp.org/tlog-tiles, https://c2sp.org/tlog-proof.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.crypto.hybrid import PinnedKey
from appliance.ledger.checkpoint import NOTE_BYTES_MAX, Checkpoint, from_base64, verify_checkpoint
from appliance.ledger.entry import ENTRY_BYTES_MAX
from appliance.ledger.merkle import HASH_BYTES, PROOF_HASHES_MAX, TILE_HEIGHT, TILE_WIDTH, root_from_inclusion
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

PROOF_MAGIC: Final = "c2sp.org/tlog-proof@v1"
PROOF_BYTES_MAX: Final = NOTE_BYTES_MAX + 2 * ENTRY_BYTES_MAX + (8 << 10)
BUNDLED_ENTRY_BYTES_MAX: Final = 0xFFFF
_TILE_PATH: Final = re.compile(
    r"\A(?P<level>entries|0|[1-9][0-9]?)/(?P<number>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?\Z"
)
_INDEX: Final = re.compile(r"\Aindex (0|[1-9][0-9]{0,18})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePath:
    """One resource of the log: `width` hashes (or entries) from number * 256 on.

    Attributes:
        level: tile level 0 to 63; None for a bundle of entries.
        width: 1 to 256; 256 is a full tile.
    """

    level: int | None
    number: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        ensure(self.level is None or 0 <= self.level <= 63, "a tile level is 0 to 63")
        ensure(self.number >= 0 and 1 <= self.width <= TILE_WIDTH, "a tile is 1 to 256 wide")

    @property
    def end(self) -> int:
        """How many nodes of this level (entries, for a bundle) there must be."""
        return self.number * TILE_WIDTH + self.width

    def is_below(self, size: int) -> bool:
        """Whether a log of `size` entries has it. Nodes of level l are roots of 256^l entries each."""
        return self.end <= size >> (TILE_HEIGHT * (self.level or 0))

    def __str__(self) -> str:
        """`<L>/<N>[.p/<W>]`, as it stands behind `/tile/`."""
        groups = [f"{self.number % 1000:03}"]
        rest = self.number // 1000
        while rest:
            groups.insert(0, f"x{rest % 1000:03}")
            rest //= 1000
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"{'entries' if self.level is None else self.level}/{'/'.join(groups)}{partial}"


def read_tile_path(text: str) -> TilePath:
    """The resource that `text` names, which has one name only.

    Raises:
        Rejected: `tile_path_malformed`.
    """
    found = _TILE_PATH.match(text)
    if found is not None:
        level = None if found["level"] == "entries" else int(found["level"])
        width = TILE_WIDTH if found["width"] is None else int(found["width"])
        number = int(found["number"].replace("x", "").replace("/", ""))
        if (level or 0) <= 63 and width <= TILE_WIDTH:
            path = TilePath(level=level, number=number, width=width)
            if str(path) == text:
                return path
    raise Rejected("tile_path_malformed", "expected <level or entries>/<x001/234>[.p/<width>]")


def tiles_of(size: int) -> tuple[TilePath, ...]:
    """The partial tiles of a log of `size` entries, level 0 first: its right edge."""
    paths = []
    level = 0
    while nodes := size >> (TILE_HEIGHT * level):
        number, width = divmod(nodes, TILE_WIDTH)
        if width:
            paths.append(TilePath(level=level, number=number, width=width))
        level += 1
    return tuple(paths)


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries, each behind its length in two bytes, big-endian.

    The format knows 65,535 bytes, an entry may have 65,536: but a stem leaves room for a seq of nine bytes, and below
    2^32 entries a seq takes five, so no entry that a log can hold is longer than 65,532.
    """
    ensure(all(len(entry) <= BUNDLED_ENTRY_BYTES_MAX for entry in entries), "a bundled entry is at most 65,535 bytes")
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


@dataclass(frozen=True, slots=True, kw_only=True)
class TlogProof:
    """An inclusion proof that travels alone.

    Attributes:
        path: siblings from the leaf up, 32 bytes each.
        checkpoint: the signed note, verbatim.
        extra: the entry itself where whoever made the proof may show it; empty otherwise. Not authenticated by itself.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    def encode(self) -> bytes:
        """The file, `.tlog-proof`."""
        lines = [PROOF_MAGIC]
        if self.extra:
            lines.append(f"extra {_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines.extend(_base64(node) for node in self.path)
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint


def read_proof(encoded: bytes) -> TlogProof:
    """Read a proof strictly; nothing of it is proven yet.

    Raises:
        Rejected: `tlog_proof_malformed`, and `checkpoint_malformed` for base64 in another form.
    """
    if len(encoded) > PROOF_BYTES_MAX:
        raise _malformed(f"at most {PROOF_BYTES_MAX} bytes")
    head, separator, checkpoint = encoded.partition(b"\n\n")
    try:
        magic, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as cause:
        raise _malformed("ASCII before the checkpoint") from cause
    if magic != PROOF_MAGIC or not separator or not checkpoint:
        raise _malformed(f"{PROOF_MAGIC}, a proof, an empty line and a checkpoint")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = from_base64(lines.pop(0).removeprefix("extra "))
    index = _INDEX.match(lines[0]) if lines else None
    if index is None:
        raise _malformed("a line of index and a decimal number")
    if len(lines) - 1 > PROOF_HASHES_MAX:
        raise _malformed(f"at most {PROOF_HASHES_MAX} hashes")
    path = tuple([from_base64(line) for line in lines[1:]])
    if any(len(node) != HASH_BYTES for node in path):
        raise _malformed("hashes of 32 bytes")
    proof = TlogProof(index=int(index[1]), path=path, checkpoint=checkpoint, extra=extra)
    if proof.encode() != encoded:
        raise _malformed("a proof in its one form")
    return proof


def verify_proof(proof: TlogProof, leaf: bytes, *, origin: str, note_key: bytes, post_quantum: PinnedKey) -> Checkpoint:
    """The checkpoint under which `leaf` is entry number `proof.index` of the log.

    Raises:
        Rejected: `tlog_proof_wrong`, and the codes of `verify_checkpoint`.
    """
    checkpoint = verify_checkpoint(proof.checkpoint, origin=origin, note_key=note_key, post_quantum=post_quantum)
    if root_from_inclusion(leaf, proof.index, checkpoint.size, proof.path) != checkpoint.root:
        raise Rejected("tlog_proof_wrong", f"the path does not lead from entry {proof.index} to the checkpoint's root")
    return checkpoint


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _malformed(expected: str) -> Rejected:
    return Rejected("tlog_proof_malformed", f"expected {expected}")

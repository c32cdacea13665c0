"""The verifier: re-checks a log from its bytes alone, in constant memory.

Owns the walk over entries and the comparison with tiles and head. Must never trust a stored hash: it is computed again
and compared. Runs over the tail at boot, over everything in the scrub, in the CLI and on other computers.

* The first bad entry is named; what follows it proves nothing.
* The walk reads an entry once, left to right, by comparing: seq and prev are known, so their bytes are compared, not
  parsed. Only the four heads of the stem are looked at. `entry.decode` is called to explain a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256

from appliance.crypto import cbor
from appliance.crypto.owner import OwnerPublic
from appliance.ledger.entry import ENTRY_BYTES_MAX, GENESIS_PREV, Entry, EntryHash, decode
from appliance.ledger.genesis import KIND as GENESIS_KIND
from appliance.ledger.genesis import GenesisStatement, LogId, read_body
from appliance.ledger.merkle import Frontier, Tile
from appliance.model.errors import Corrupt, TillstoneError

StoredTile = Callable[[int, int], bytes]
"""The stored hashes of a full tile (level, number)."""


class BadEntry(Corrupt):
    """The first entry that is not what the log says it is."""

    def __init__(self, seq: int, code: str, detail: str) -> None:
        super().__init__(code, f"entry {seq}: {detail}")
        self.seq = seq


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLog:
    """What the bytes came to. `genesis` is None when the walk began behind entry 0."""

    size: int
    entry_hash: EntryHash
    root: bytes
    log_id: LogId | None
    genesis: GenesisStatement | None


def verify_log(
    entries: Iterable[bytes],
    *,
    owner: OwnerPublic | None,
    stored_tile: StoredTile | None = None,
    check_bodies: bool = False,
) -> VerifiedLog:
    """Walk a whole log from entry 0.

    Args:
        owner: whose signature the genesis must carry; None on the box itself, which pins its log id.
        stored_tile: when given, each full tile must equal the one computed.
        check_bodies: also decode each body strictly; three times slower.
    Raises:
        BadEntry: `entry_malformed`, `entry_out_of_order`, `chain_broken`, `tile_mismatch`, `genesis_wrong`.
    """
    walk = _Walk(stored_tile)
    genesis: GenesisStatement | None = None
    log_id: LogId | None = None
    for encoded in entries:
        walk.step(encoded)
        if walk.size == 1:
            log_id, genesis = _check_genesis(decode(encoded), owner)
        if check_bodies:
            _check_body(walk.size - 1, encoded)
    return VerifiedLog(
        size=walk.size, entry_hash=EntryHash(walk.prev), root=walk.frontier.root(), log_id=log_id, genesis=genesis
    )


def verify_tail(
    entries: Iterable[bytes], *, first_seq: int, first_prev: bytes | None
) -> tuple[int, EntryHash, list[bytes]]:
    """Walk the end of a log: size, hash of the last entry, and the leaf hashes seen.

    Args:
        first_prev: what the first entry must name as prev; None takes its word (the tail was cut somewhere).
    Raises:
        BadEntry: as `verify_log`.
    """
    prev, seq, leaves = first_prev, first_seq, list[bytes]()
    for encoded in entries:
        if prev is None:
            prev = encoded[-32:]
        if not is_next(encoded, seq, prev):
            raise _explain(encoded, seq, prev)
        prev = sha256(encoded).digest()
        leaves.append(sha256(b"\x00" + encoded).digest())
        seq += 1
    return seq, EntryHash(prev if prev is not None else GENESIS_PREV), leaves


class _Walk:
    """State of a walk: size, chain and right edge; nothing grows with the log but its logarithm."""

    def __init__(self, stored_tile: StoredTile | None) -> None:
        self.size = 0
        self.prev: bytes = GENESIS_PREV
        self.frontier = Frontier()
        self._stored_tile = stored_tile
        self._full: list[Tile] = []

    def step(self, encoded: bytes) -> None:
        if not is_next(encoded, self.size, self.prev):
            raise _explain(encoded, self.size, self.prev)
        self.prev = sha256(encoded).digest()
        self.frontier.append(sha256(b"\x00" + encoded).digest(), self._full)
        self.size += 1
        if self._full:
            self._compare_tiles()

    def _compare_tiles(self) -> None:
        for tile in self._full:
            if self._stored_tile is not None and self._stored_tile(tile.level, tile.index) != tile.hashes:
                raise BadEntry(
                    self.size - 1,
                    "tile_mismatch",
                    f"tile {tile.index} of level {tile.level} is not what the entries say",
                )
        self._full.clear()


def is_next(encoded: bytes, seq: int, prev: bytes) -> bool:
    """Whether `encoded` is a canonical entry with this seq and prev; says nothing about why not."""
    try:
        entry = decode(encoded)
    except Corrupt:
        return False
    return entry.seq == seq and entry.prev == prev


def _explain(encoded: bytes, seq: int, prev: bytes) -> BadEntry:
    """Say what is wrong with an entry that is not the next one."""
    try:
        entry = decode(encoded)
    except Corrupt as malformed:
        return BadEntry(seq, malformed.code, malformed.detail)
    if entry.seq != seq:
        return BadEntry(seq, "entry_out_of_order", f"expected seq {seq}, saw {entry.seq}")
    return BadEntry(seq, "chain_broken", f"expected prev {prev.hex()[:16]}, saw {entry.prev.hex()[:16]}")


def _check_genesis(entry: Entry, owner: OwnerPublic | None) -> tuple[LogId, GenesisStatement]:
    if entry.kind != GENESIS_KIND:
        raise BadEntry(0, "genesis_wrong", f"expected kind {GENESIS_KIND!r}, saw {entry.kind!r}")
    try:
        signed = read_body(entry.body)
        statement = signed.read() if owner is None else signed.verify(owner)
    except TillstoneError as cause:
        raise BadEntry(0, "genesis_wrong", str(cause)) from cause
    return signed.log_id, statement


def _check_body(seq: int, encoded: bytes) -> None:
    try:
        cbor.decode(decode(encoded).body, size_max=ENTRY_BYTES_MAX)
    except TillstoneError as cause:
        raise BadEntry(seq, "body_malformed", str(cause)) from cause

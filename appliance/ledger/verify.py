"""The verifier: re-checks a log from its bytes alone, in constant memory.

Owns the walk over entries and the comparison with tiles and head. Must never trust a stored hash: it is computed again
and compared. Runs over the tail at boot, over everything in the scrub, in the CLI and on other computers.

* The first bad entry is named; what follows it proves nothing.
* A pruned entry is walked over by its hash: the tree is checked through it, the chain begins anew behind it, and an
  entry further on must say that it was pruned.
* Most entries are not taken apart: see `_is_plain_next`. Whatever is unusual goes through `entry.decode`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from appliance.crypto import cbor
from appliance.crypto.owner import OwnerPublic
from appliance.ledger.entry import ENTRY_BYTES_MAX, GENESIS_PREV, Entry, EntryHash, decode
from appliance.ledger.genesis import KIND as GENESIS_KIND
from appliance.ledger.genesis import GenesisStatement, LogId, read_body
from appliance.ledger.merkle import Frontier, Tile
from appliance.ledger.pruned import PRUNED, PrunedEntry, read_pruned
from appliance.model.errors import Corrupt, TillstoneError

_ARRAY_AND_VERSION = b"\x88\x01"
_TIME_HEAD = b"\x1b"
_PRUNED_KIND = cbor.encode(PRUNED)
_KIND_WITHIN_BYTES = 2 + 9 + 9 + 1 + len(PRUNED)  # version, seq, time, kind
_SALT_AND_PREV_BYTES = 51  # two heads of 1 and 2 bytes, 16 bytes of salt, 32 of prev

StoredTile = Callable[[int, int], bytes]
"""The stored hashes of a full tile (level, number)."""


class BadEntry(Corrupt):
    """The first entry that is not what the log says it is."""

    def __init__(self, seq: int, code: str, detail: str) -> None:
        super().__init__(code, f"entry {seq}: {detail}")
        self.seq = seq


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLog:
    """What the bytes came to. `genesis` is None when the walk began behind entry 0; `pruned` of `size` were hashes."""

    size: int
    entry_hash: EntryHash
    root: bytes
    log_id: LogId | None
    genesis: GenesisStatement | None
    pruned: int = 0


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
        BadEntry: `entry_malformed`, `entry_out_of_order`, `chain_broken`, `entry_changed`, `tile_mismatch`,
            `genesis_wrong`, `entry_missing` (a hash alone, and no entry says that it was pruned).
    """
    walk = _Walk(stored_tile)
    genesis: GenesisStatement | None = None
    log_id: LogId | None = None
    following = iter(entries)
    for encoded in following:
        try:
            walk.step(encoded)
        except BadEntry as bad:
            raise _blamed(bad, encoded, next(following, None)) from None
        if walk.size == 1:
            log_id, genesis = _check_genesis(decode(encoded), owner)
        if check_bodies and not isinstance(encoded, PrunedEntry):
            _check_body(walk.size - 1, encoded)
    return VerifiedLog(
        size=walk.size,
        entry_hash=EntryHash(walk.end()),
        root=walk.frontier.root(),
        log_id=log_id,
        genesis=genesis,
        pruned=walk.pruned,
    )


def _blamed(bad: BadEntry, encoded: bytes, following: bytes | None) -> BadEntry:
    """A broken link has two ends: where the next entry vouches for the later end, the earlier one was changed."""
    is_whole = following is not None and following[-32:] == sha256(encoded).digest()
    if bad.code != "chain_broken" or not is_whole:
        return bad
    seq = bad.seq - 1
    return BadEntry(
        seq, "entry_changed", f"it was changed: entry {seq + 1} names another hash, and {seq + 2} vouches for it"
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
        self.prev: bytes | None = GENESIS_PREV
        self.frontier = Frontier()
        self.pruned = 0
        self._pruned_end = 0
        self._pruned_below = 0
        self._stored_tile = stored_tile
        self._full: list[Tile] = []

    def step(self, encoded: bytes) -> None:
        if type(encoded) is PrunedEntry:
            self._step_over(encoded)
            return
        prev = encoded[-32:] if self.prev is None else self.prev  # behind a pruned entry its word is taken
        if not is_next(encoded, self.size, prev):
            raise _explain(encoded, self.size, prev)
        if self.pruned and _PRUNED_KIND in encoded[:_KIND_WITHIN_BYTES]:
            self._hear(encoded)
        self.prev = sha256(encoded).digest()
        self._add(sha256(b"\x00" + encoded).digest())

    def end(self) -> bytes:
        """The hash of the last entry, once every gap was found to be meant."""
        if self._pruned_end > self._pruned_below or self.prev is None:
            raise BadEntry(
                self._pruned_end - 1, "entry_missing", "it is not there, and no entry says that it was pruned"
            )
        return self.prev

    def _step_over(self, leaf: PrunedEntry) -> None:
        self.prev = None
        self._add(bytes(leaf))
        self.pruned += 1
        self._pruned_end = self.size

    def _hear(self, encoded: bytes) -> None:
        entry = decode(encoded)
        if entry.kind == PRUNED:
            self._pruned_below = max(self._pruned_below, min(read_pruned(entry.body).below, entry.seq))

    def _add(self, leaf: bytes) -> None:
        self.frontier.append(leaf, self._full)
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
    return _is_plain_next(encoded, seq, prev) or _is_next(encoded, seq, prev)


def _is_plain_next(encoded: bytes, seq: int, prev: bytes) -> bool:
    """The same for entries as they usually are, without taking them apart; False means "look closer".

    What is expected is compared instead of parsed: everything before the time, and the heads around salt and prev.
    Kind and actor repeat all day: their bytes are read once and remembered. That leaves time and the body's head.
    """
    prefix = _ARRAY_AND_VERSION + cbor.head(0, seq) + _TIME_HEAD
    kind_at = len(prefix) + 8
    salt_at = len(encoded) - _SALT_AND_PREV_BYTES
    if not kind_at + 5 < salt_at < ENTRY_BYTES_MAX - _SALT_AND_PREV_BYTES or not encoded.startswith(prefix):
        return False
    if encoded[-32:] != prev or encoded[-34:-32] != b"\x58\x20" or encoded[salt_at] != 0x50:
        return False
    # The eight-byte head is the shortest from 2^32 ms (February 1970) on; 2^63 ends the format.
    if encoded[kind_at - 8] > 0x7F or encoded[kind_at - 8 : kind_at - 4] == bytes(4):
        return False
    actor_at = kind_at + 1 + (encoded[kind_at] & 0x1F)
    if actor_at >= salt_at:
        return False
    body_at = actor_at + 1 + (encoded[actor_at] & 0x1F)
    if body_at + 3 >= salt_at or not _are_plain_names(encoded[kind_at:body_at]):
        return False
    return _is_plain_body(encoded, body_at, salt_at)


def _is_plain_body(encoded: bytes, body_at: int, salt_at: int) -> bool:
    """Whether a byte string of 24 to 65,535 bytes, in its shortest form, holds a map and ends where the salt begins."""
    head = encoded[body_at]
    if head == 0x58:
        size, start = encoded[body_at + 1], body_at + 2
        is_shortest = size >= 24
    elif head == 0x59:
        size, start = encoded[body_at + 1] << 8 | encoded[body_at + 2], body_at + 3
        is_shortest = size > 0xFF
    else:
        return False
    return is_shortest and start + size == salt_at and encoded[start] >> 5 == 5


@lru_cache(maxsize=4_096)
def _are_plain_names(names: bytes) -> bool:
    """Whether `names` is a kind and an actor of less than 24 bytes each, as `entry.decode` would accept them."""
    if names[0] >> 5 != 3 or names[0] & 0x1F > 23:
        return False
    actor_at = 1 + (names[0] & 0x1F)
    if names[actor_at] >> 5 != 3 or names[actor_at] & 0x1F > 23:
        return False
    try:
        decode(_ARRAY_AND_VERSION + b"\x00\x00" + names + b"\x41\xa0\x50" + bytes(16) + b"\x58\x20" + bytes(32))
    except Corrupt:
        return False
    return True


def _is_next(encoded: bytes, seq: int, prev: bytes) -> bool:
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

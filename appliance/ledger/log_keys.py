"""Which keys speak for a log at which size, and which of them the owner no longer trusts.

Owns the question "may this key sign a head of this size?". Must never read the log: a verifier outside asks it with
what a trust file or an exported log brought.

* A rotation at size R: heads of up to R entries are the old keys', larger ones the new keys'.
* After `distrust key K after size S` a larger head by K counts only for what others saw in time.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from appliance.crypto import signature
from appliance.crypto.hybrid import HybridPublic
from appliance.ledger.genesis import GenesisStatement, LogId
from appliance.ledger.merkle import root_from_inclusion
from appliance.model.errors import Rejected

_SECONDS_MAX: Final = 253_402_300_799  # the end of the year 9999
Leaf: TypeAlias = tuple[int, bytes]
"""Index and leaf hash of an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VouchedHead:
    """A head that others saw: cosigned by as many witnesses as the verifier's policy needs, or anchored in a block.

    Attributes:
        time_ms: when it was seen at the latest (of the cosignature, of the block), Unix milliseconds.
        paths: inclusion paths of a receipt's entries under this head, when the receipt is about another head.
    """

    log_id: LogId
    size: int
    root: bytes
    time_ms: int
    paths: tuple[tuple[bytes, ...], ...] = ()

    def has(self, leaves: Sequence[Leaf]) -> bool:
        """Whether each of `leaves`, of which there is at least one, lies under this head by its path."""
        return len(self.paths) == len(leaves) > 0 and all(
            root_from_inclusion(leaf, index, self.size, path) == self.root
            for (index, leaf), path in zip(leaves, self.paths, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPeriod:
    """Keys and the head sizes that they sign: from `first_size` on, until the next period begins.

    Attributes:
        note_key: SubjectPublicKeyInfo of the Ed25519 key of checkpoints.
    """

    first_size: int
    keys: HybridPublic
    note_key: bytes

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """Every key of the period, once."""
        keys = (self.keys.classical.key_id, self.keys.post_quantum.key_id, signature.key_id(self.note_key))
        return tuple(dict.fromkeys(keys))


@dataclass(frozen=True, slots=True, kw_only=True)
class Distrust:
    """The owner's word that a key was in wrong hands.

    Attributes:
        key_id: SHA-256 of the SubjectPublicKeyInfo.
        size: the last head by the key that is believed by itself.
        before_ms: a larger head counts when others saw it before this moment, Unix milliseconds.
    """

    log_id: LogId
    key_id: bytes
    size: int
    before_ms: int

    @property
    def before(self) -> str:
        """The moment for people: ISO 8601 in UTC."""
        seconds = min(self.before_ms // 1_000, _SECONDS_MAX)
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKeys:
    """The keys of one log through its life; periods in order, the first from size 1 on."""

    log_id: LogId
    periods: tuple[KeyPeriod, ...]
    distrusted: tuple[Distrust, ...] = ()

    @classmethod
    def of(cls, log_id: LogId, statement: GenesisStatement) -> LogKeys:
        """The keys that the genesis names."""
        return cls(log_id=log_id, periods=(KeyPeriod(first_size=1, keys=statement.keys, note_key=statement.note_key),))

    @property
    def newest(self) -> KeyPeriod:
        """Who signs today."""
        return self.periods[-1]

    def at(self, size: int) -> KeyPeriod:
        """Who signs heads of `size`, which is at least 1."""
        return next(period for period in reversed(self.periods) if period.first_size <= max(size, 1))

    def then(self, period: KeyPeriod) -> LogKeys:
        """With one more period behind these. Raises Rejected `rotation_out_of_order`."""
        if period.first_size <= self.newest.first_size:
            raise Rejected(
                "rotation_out_of_order",
                f"expected keys from a size above {self.newest.first_size}, saw {period.first_size}",
            )
        return replace(self, periods=(*self.periods, period))

    def without(self, distrusted: Collection[Distrust]) -> LogKeys:
        """With those of `distrusted` that are about this log."""
        return replace(self, distrusted=tuple([each for each in distrusted if each.log_id == self.log_id]))

    def distrusts(self, period: KeyPeriod) -> bool:
        """Whether the owner distrusts a key of `period`, from whatever size on."""
        return any(each.key_id in period.key_ids for each in self.distrusted)

    def require_trusted(
        self, size: int, root: bytes, vouched: Collection[VouchedHead], leaves: Sequence[Leaf] = ()
    ) -> None:
        """Return if the keys may be believed about this head.

        Args:
            vouched: heads that the caller has proven to be cosigned or anchored.
            leaves: what is to be believed, when it is less than the whole head: enough if others saw these.
        Raises:
            Rejected: `log_key_distrusted`.
        """
        names = self.at(size).key_ids
        broken = [each for each in self.distrusted if each.key_id in names and size > each.size]
        if not broken:
            return
        first = min(broken, key=lambda each: each.before_ms)
        for head in vouched:
            is_of_it = head.log_id == self.log_id and ((head.size, head.root) == (size, root) or head.has(leaves))
            if is_of_it and head.time_ms < first.before_ms:
                return
        raise Rejected(
            "log_key_distrusted",
            f"the owner trusts key {first.key_id.hex()[:16]} for heads of up to {first.size} entries, and this one has"
            f" {size}: it counts only if others saw it before {first.before}, and nothing here shows that",
        )

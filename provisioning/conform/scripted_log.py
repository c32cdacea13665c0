"""A log in memory that signs real receipts and, on demand, wrong ones.

Owns entries and heads of one scripted sale. Must never be mistaken for the ledger: nothing here is durable.
"""

from __future__ import annotations

import secrets
from enum import Enum
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.crypto.signing_key import SigningKey
from appliance.ledger import entry as entry_format
from appliance.ledger import genesis
from appliance.ledger import receipt as receipt_format
from appliance.ledger.merkle import Frontier, Tile, Tree, leaf_hash
from appliance.model.errors import Bug
from appliance.wire.requests import Seen, Wire
from provisioning.conform.identity import BoxIdentity, LogKeys

_ENTRIES_MAX: Final = 255
"""Below one full tile, so that the right edge alone holds the tree."""


class Forgery(Enum):
    """How a receipt is spoilt."""

    NONE = "none"
    ENTRY_CHANGED = "entry_changed"
    CLASSICAL_CHANGED = "classical_changed"
    POST_QUANTUM_CHANGED = "post_quantum_changed"
    FOREIGN_KEYS = "foreign_keys"


class ScriptedLog:
    """Append, sign, and lose entries."""

    def __init__(self, *, identity: BoxIdentity) -> None:
        self._identity = identity
        self._entries: list[bytes] = []
        self._append(genesis.KIND, genesis.ACTOR, identity.log.genesis.encode_body(), 0)

    @property
    def size(self) -> int:
        return len(self._entries)

    @property
    def head(self) -> Seen:
        """The head of all entries."""
        return Seen(size=self.size, root=_tree(self._entries).root(self.size).hex())

    def append(self, kind: str, actor: str, body: Wire, time_ms: int) -> int:
        """Put an entry behind the last one; returns its seq."""
        return self._append(kind, actor, cbor.encode(msgspec.to_builtins(body, builtin_types=(bytes,))), time_ms)

    def entry_hash(self, seq: int) -> bytes:
        return entry_format.entry_hash(self._entries[seq])

    def lose_all_but(self, size: int) -> None:
        """What a restored backup looks like."""
        del self._entries[size:]

    def receipt(self, seqs: tuple[int, ...], forgery: Forgery = Forgery.NONE) -> bytes:
        """A receipt under the newest head, spoilt as told."""
        keys = self._identity.forger if forgery is Forgery.FOREIGN_KEYS else self._identity.log
        tree = _tree(self._entries)
        root = tree.root(self.size)
        classical = self._sign(keys, keys.classical, root)
        post_quantum = self._sign(keys, keys.post_quantum, root)
        encoded = [self._entries[seq] for seq in seqs]
        match forgery:
            case Forgery.ENTRY_CHANGED:
                encoded[-1] = _flipped(encoded[-1], -40)  # the salt: still a well-formed entry
            case Forgery.CLASSICAL_CHANGED:
                classical = _spoilt(classical)
            case Forgery.POST_QUANTUM_CHANGED:
                post_quantum = _spoilt(post_quantum)
            case Forgery.NONE | Forgery.FOREIGN_KEYS:
                pass
        head = receipt_format.SignedHead(
            log_id=keys.genesis.log_id, size=self.size, root=root, classical=classical, post_quantum=post_quantum
        )
        proven = tuple(
            receipt_format.ProvenEntry(seq=seq, entry=changed, path=tree.inclusion_proof(seq, self.size))
            for seq, changed in zip(seqs, encoded, strict=True)
        )
        return receipt_format.ReceiptBundle(head=head, entries=proven).encode()

    def _append(self, kind: str, actor: str, body: bytes, time_ms: int) -> int:
        if self.size >= _ENTRIES_MAX:
            raise Bug("scripted_log_full", "a scenario writes fewer than 255 entries")
        salt = secrets.token_bytes(entry_format.SALT_BYTES)
        stem = entry_format.encode_stem(time_ms=time_ms, kind=kind, actor=actor, body=body, salt=salt)
        prev = entry_format.entry_hash(self._entries[-1]) if self._entries else entry_format.GENESIS_PREV
        self._entries.append(entry_format.splice(self.size, stem, prev))
        return self.size - 1

    def _sign(self, keys: LogKeys, key: SigningKey, root: bytes) -> receipt_format.HeadSignature:
        protected = receipt_format.head_protected(
            algorithm=key.algorithm, key_id=key.key_id, log_id=keys.genesis.log_id, size=self.size
        )
        return receipt_format.HeadSignature(
            protected=protected, signature=key.sign(receipt_format.head_to_be_signed(protected, root))
        )


class _NoTiles:
    def node(self, level: int, index: int) -> bytes:
        raise Bug("scripted_log_full", f"tile node ({level}, {index}) was asked for, and no tile is ever full here")


def _tree(entries: list[bytes]) -> Tree:
    frontier = Frontier()
    full: list[Tile] = []
    frontier.extend([leaf_hash(entry) for entry in entries], full)
    return Tree(frontier, _NoTiles())


def _spoilt(half: receipt_format.HeadSignature) -> receipt_format.HeadSignature:
    return receipt_format.HeadSignature(protected=half.protected, signature=_flipped(half.signature, 17))


def _flipped(octets: bytes, at: int) -> bytes:
    changed = bytearray(octets)
    changed[at] ^= 1
    return bytes(changed)

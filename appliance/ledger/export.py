"""Exported logs: a whole log as one file that a stranger reads from front to back.

Owns the file's bytes. Must never hold a disclosure: what may be erased never leaves in a file that cannot be.

* Header, entries, end record: a file cut short is seen as such. Written and read in constant memory.
* Of a pruned entry the leaf hash stands in its place (version 2): the tree, and so the signed head, is still checked.

Source: docs/formats/export.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from appliance.crypto import cbor, hybrid
from appliance.crypto.hybrid import HybridPublic, Signed
from appliance.ledger.entry import ENTRY_BYTES_MAX
from appliance.ledger.genesis import LogId
from appliance.ledger.log_keys import VouchedHead
from appliance.ledger.merkle import HASH_BYTES
from appliance.ledger.pruned import PrunedEntry
from appliance.ledger.receipt import HeadSignature, SignedHead, head_protected, head_to_be_signed
from appliance.ledger.trust import Evidence, Trust, listening
from appliance.ledger.verify import VerifiedLog, verify_log
from appliance.model.errors import Rejected

MAGIC = b"tillstone log v1\n"
MAGIC_PRUNED = b"tillstone log v2\n"
_LEAF_LENGTH = 0xFFFFFFFF  # stands where an entry's length would: 32 bytes of hash follow
END_BYTES_MAX = 16 << 10
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedExport:
    """A file that proves its log: entries, chain, tree, genesis and the signed head over all of it."""

    log: VerifiedLog
    head: SignedHead
    keys: HybridPublic


def write_log(file: BinaryIO, entries: Iterable[bytes], head: SignedHead, *, is_pruned: bool = False) -> None:
    """Write the first `head.size` entries and the head over them; only a pruned log has a `PrunedEntry` in it."""
    file.write(MAGIC_PRUNED if is_pruned else MAGIC)
    for entry in entries:
        is_leaf = isinstance(entry, PrunedEntry)
        file.write((_LEAF_LENGTH if is_leaf else len(entry)).to_bytes(_LENGTH_BYTES, "big"))
        file.write(entry)
    end = cbor.encode(
        {
            "classical": [head.classical.protected, head.classical.signature],
            "log": head.log_id,
            "post_quantum": [head.post_quantum.protected, head.post_quantum.signature],
            "root": head.root,
            "size": head.size,
        }
    )
    # A length of zero cannot be an entry: what follows is the end.
    file.write(bytes(_LENGTH_BYTES) + len(end).to_bytes(_LENGTH_BYTES, "big") + end)


def verify_export(
    file: BinaryIO, trust: Trust, *, check_bodies: bool = False, vouched: Collection[VouchedHead] = ()
) -> VerifiedExport:
    """Read and verify a whole file, with the log's name and keys as the owner signed them in its entries.

    Args:
        vouched: heads proven to be cosigned or anchored; they decide where the owner distrusts a key.
    Raises:
        BadEntry: the first bad entry, as `verify_log`.
        Rejected: `export_malformed`, `export_truncated`, `export_log_unknown`, `export_head_mismatch`,
            `log_key_distrusted`, the codes of `Rotation.extend`, and those of `hybrid.require_both` with noun "head".
    """
    reader = _Reader(file)
    said: list[Evidence] = []
    log = verify_log(listening(reader.entries(), said), owner=trust.owner, check_bodies=check_bodies)
    head = reader.head()
    if log.log_id is None or log.log_id != head.log_id:
        raise Rejected("export_log_unknown", "the signed head is another log's than the entries are")
    if head.size != log.size:
        raise Rejected("export_head_mismatch", f"the head says {head.size} entries, the file holds {log.size}")
    if head.root != log.root:
        raise Rejected(
            "export_head_mismatch",
            f"the signed root of {head.size} entries is {head.root.hex()[:16]}, the entries give"
            f" {log.root.hex()[:16]}: an entry was changed, perhaps the last, or the head itself",
        )
    log_keys = trust.learn(sum(said, Evidence())).keys[log.log_id]
    keys = log_keys.at(head.size).keys
    claims: list[Signed] = []
    for pinned, half in ((keys.classical, head.classical), (keys.post_quantum, head.post_quantum)):
        expected = head_protected(algorithm=pinned.algorithm, key_id=pinned.key_id, log_id=head.log_id, size=head.size)
        if half.protected != expected:
            raise Rejected("export_head_mismatch", "the signed header names another key, log or size")
        claims.append(
            Signed(
                key_id=pinned.key_id,
                algorithm=pinned.algorithm,
                to_be_signed=head_to_be_signed(half.protected, head.root),
                signature=half.signature,
            )
        )
    hybrid.require_both(keys, claims, noun="head")
    log_keys.require_trusted(head.size, head.root, vouched)
    return VerifiedExport(log=log, head=head, keys=keys)


def read_entries(file: BinaryIO) -> Iterator[bytes]:
    """The entries of a file, unverified; for tools that verify as they go."""
    return _Reader(file).entries()


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        magic = self._file.read(len(MAGIC))
        self._may_be_pruned = magic == MAGIC_PRUNED
        if magic not in (MAGIC, MAGIC_PRUNED):
            raise Rejected("export_malformed", "expected an exported log of version 1 or 2")

    def entries(self) -> Iterator[bytes]:
        while size := self._length():
            if size == _LEAF_LENGTH and self._may_be_pruned:
                yield PrunedEntry(self._exactly(HASH_BYTES))
                continue
            if size > ENTRY_BYTES_MAX:
                raise Rejected("export_malformed", f"expected entries of at most {ENTRY_BYTES_MAX} bytes, saw {size}")
            yield self._exactly(size)

    def head(self) -> SignedHead:
        size = self._length()
        if size > END_BYTES_MAX:
            raise Rejected("export_malformed", f"expected an end of at most {END_BYTES_MAX} bytes, saw {size}")
        match cbor.decode(self._exactly(size), size_max=END_BYTES_MAX):
            case {
                "classical": [bytes(classical_protected), bytes(classical)],
                "log": bytes(log_id),
                "post_quantum": [bytes(post_quantum_protected), bytes(post_quantum)],
                "root": bytes(root),
                "size": int(log_size),
                **rest,
            } if not rest and not self._file.read(1):
                return SignedHead(
                    log_id=LogId(log_id),
                    size=log_size,
                    root=root,
                    classical=HeadSignature(protected=classical_protected, signature=classical),
                    post_quantum=HeadSignature(protected=post_quantum_protected, signature=post_quantum),
                )
            case _:
                raise Rejected("export_malformed", "expected an end record with nothing behind it")

    def _length(self) -> int:
        return int.from_bytes(self._exactly(_LENGTH_BYTES), "big")

    def _exactly(self, size: int) -> bytes:
        read = self._file.read(size)
        if len(read) != size:
            raise Rejected("export_truncated", "the file ends before its end record")
        return read

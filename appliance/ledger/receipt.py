"""Receipts: proof to a stranger that entries are in a log that the owner vouched for.

Owns the COSE Receipts (RFC 9942) and the receipt file around them. Must never read a database or a clock: building
takes a signed head and proofs, verifying takes the file and the trust, nothing else.

* RFC 9942 signs the root only. Size and log stand in our protected headers, or a proof for (4, 7) would pass as
  (8, 11) (measured) and one log's receipt for another's.
* One pair of signatures carries the proofs of a whole batch.

Source: docs/formats/receipt.md; RFC 9942 sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from appliance.crypto import cbor, cose, hybrid
from appliance.crypto.disclosure import SALT_SIZE, commit
from appliance.crypto.hybrid import Signed
from appliance.ledger.draft import Disclosure
from appliance.ledger.entry import HASH_BYTES, Entry, decode
from appliance.ledger.genesis import LogId
from appliance.ledger.log_keys import LogKeys, VouchedHead
from appliance.ledger.merkle import leaf_hash, root_from_inclusion
from appliance.model.errors import Corrupt, Rejected

RECEIPT_BYTES_MAX = 32 << 20
LOG_ID = -70101
TREE_SIZE = -70102
RFC9162_SHA256 = 1
INCLUSION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSignature:
    """One key's signature over a head."""

    protected: bytes
    signature: bytes

    def receipt(self, unprotected: bytes) -> bytes:
        """The COSE Receipt with the proofs in `unprotected`, an encoded header map; the root is detached."""
        return cose.join_sign1(self.protected, unprotected, None, self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A durable tree head with one signature of each key class."""

    log_id: LogId
    size: int
    root: bytes
    classical: HeadSignature
    post_quantum: HeadSignature


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenEntry:
    """An entry with its inclusion proof under a head."""

    seq: int
    entry: bytes
    path: tuple[bytes, ...]
    disclosures: tuple[Disclosure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptBundle:
    """A head and the entries proven under it."""

    head: SignedHead
    entries: tuple[ProvenEntry, ...]

    def encode(self) -> bytes:
        """The receipt file; members in the order of their CBOR keys."""
        return cbor.encode_ordered(
            {
                "entries": [proven.entry for proven in self.entries],
                "version": 1,
                "receipts": self.cose_receipts(),
                "disclosures": [
                    [at, disclosure.name, disclosure.salt, disclosure.value]
                    for at, proven in enumerate(self.entries)
                    for disclosure in proven.disclosures
                ],
            }
        )

    def cose_receipts(self) -> tuple[bytes, bytes]:
        """The two COSE Receipts, classical and post-quantum, each with every proof."""
        proofs = [cbor.encode_ordered([self.head.size, proven.seq, proven.path]) for proven in self.entries]
        unprotected = cbor.encode_ordered({cose.VDP: {INCLUSION: proofs}})
        return self.head.classical.receipt(unprotected), self.head.post_quantum.receipt(unprotected)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedReceipt:
    """What a receipt proves: these entries are in that log at that size."""

    log_id: LogId
    size: int
    root: bytes
    entries: tuple[Entry, ...]
    disclosures: tuple[tuple[int, Disclosure], ...]


def head_protected(*, algorithm: int, key_id: bytes, log_id: bytes, size: int) -> bytes:
    """The protected header of a head's signature."""
    return cose.encode_protected(
        {
            cose.ALG: algorithm,
            cose.KEY_ID: key_id,
            cose.VDS: RFC9162_SHA256,
            LOG_ID: log_id,
            TREE_SIZE: size,
        }
    )


def head_to_be_signed(protected: bytes, root: bytes) -> bytes:
    """The bytes under a head's signature; the payload is the root, detached in receipts."""
    return cose.sign1_to_be_signed(protected, root)


def verify_receipt(
    file: bytes, logs: Mapping[LogId, LogKeys], vouched: Collection[VouchedHead] = ()
) -> VerifiedReceipt:
    """What the receipt file proves, given the keys of known logs (`trust.py`).

    Args:
        vouched: heads proven to be cosigned or anchored; they decide where the owner distrusts a key.
    Raises:
        Rejected: `receipt_malformed`, `receipt_log_unknown`, `receipt_log_mismatch`, `receipt_size_mismatch`,
            `receipt_index_mismatch`, `receipt_proof_wrong`, `receipt_entry_malformed`, `receipt_disclosure_wrong`,
            `log_key_distrusted`, the codes of `hybrid.require_both` with noun "receipt", every `cbor_*` and `cose_*`
            code.
    """
    encoded, encoded_receipts, encoded_disclosures = _read_file(file)
    entries = tuple([_read_entry(item) for item in encoded])
    receipts = [_Receipt.read(item) for item in encoded_receipts]
    first = receipts[0]
    roots = {receipt.prove(entries) for receipt in receipts}
    if {receipt.log_id for receipt in receipts} != {first.log_id}:
        raise Rejected("receipt_log_mismatch", "expected both signatures for one log, saw two logs")
    if {receipt.size for receipt in receipts} != {first.size} or len(roots) != 1:
        raise Rejected("receipt_size_mismatch", "expected both signatures over one head, saw two heads")
    (root,) = roots
    keys = logs.get(first.log_id)
    if keys is None:
        raise Rejected("receipt_log_unknown", f"log {first.log_id.hex()[:16]} is not among {len(logs)} trusted logs")
    hybrid.require_both(keys.at(first.size).keys, [receipt.claim(root) for receipt in receipts], noun="receipt")
    leaves = [(entry.seq, leaf_hash(entry.encoded)) for entry in entries]
    keys.require_trusted(first.size, root, vouched, leaves)
    return VerifiedReceipt(
        log_id=first.log_id,
        size=first.size,
        root=root,
        entries=entries,
        disclosures=tuple([_read_disclosure(item, entries) for item in encoded_disclosures]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Receipt:
    """One COSE Receipt taken apart."""

    message: cose.Sign1
    log_id: LogId
    size: int
    proofs: tuple[tuple[int, tuple[bytes, ...]], ...]

    @classmethod
    def read(cls, encoded: bytes) -> _Receipt:
        message = cose.decode_sign1(encoded, size_max=RECEIPT_BYTES_MAX)
        if message.payload is not None:
            raise Rejected("receipt_malformed", "expected a detached payload")
        if message.protected.get(cose.VDS) != RFC9162_SHA256:
            raise Rejected("receipt_malformed", "expected an RFC 9162 tree with SHA-256 (vds 1)")
        match message.protected.get(LOG_ID), message.protected.get(TREE_SIZE), message.unprotected:
            case bytes(log_id), int(size), {cose.VDP: {-1: [*proofs], **others}, **rest} if (
                len(log_id) == HASH_BYTES and proofs and not others and not rest
            ):
                read = tuple([_read_proof(proof, size) for proof in proofs])
                return cls(message=message, log_id=LogId(log_id), size=size, proofs=read)
        raise Rejected(
            "receipt_malformed", "expected log id and tree size in the protected header and inclusion proofs"
        )

    def prove(self, entries: Sequence[Entry]) -> bytes:
        """The one root under which every entry is proven."""
        if len(entries) != len(self.proofs):
            raise Rejected("receipt_malformed", f"expected {len(entries)} proofs, saw {len(self.proofs)}")
        roots = set[bytes]()
        for entry, (index, path) in zip(entries, self.proofs, strict=True):
            if entry.seq != index:
                raise Rejected("receipt_index_mismatch", f"expected a proof for entry {entry.seq}, saw leaf {index}")
            root = root_from_inclusion(leaf_hash(entry.encoded), index, self.size, path)
            if root is None:
                raise Rejected("receipt_proof_wrong", f"the path of entry {entry.seq} does not fit size {self.size}")
            roots.add(root)
        if len(roots) != 1:
            raise Rejected("receipt_proof_wrong", f"expected one root for all entries, saw {len(roots)}")
        return roots.pop()

    def claim(self, root: bytes) -> Signed:
        return Signed(
            key_id=self.message.key_id or b"",
            algorithm=self.message.algorithm,
            to_be_signed=self.message.to_be_signed(root),
            signature=self.message.signature,
        )


def _read_file(file: bytes) -> tuple[list[cbor.Value], list[bytes], list[cbor.Value]]:
    match cbor.decode(file, size_max=RECEIPT_BYTES_MAX):
        case {
            "version": 1,
            "entries": [*entries],
            "receipts": [*receipts],
            "disclosures": [*disclosures],
            **rest,
        } if entries and receipts and not rest:
            encoded = [receipt for receipt in receipts if isinstance(receipt, bytes)]
            if len(encoded) == len(receipts):
                return entries, encoded, disclosures
        case _:
            pass
    raise Rejected("receipt_malformed", "expected a receipt file of version 1")


def _read_entry(encoded: cbor.Value) -> Entry:
    if not isinstance(encoded, bytes):
        raise Rejected("receipt_malformed", "expected entries as byte strings")
    try:
        return decode(encoded)
    except Corrupt as cause:  # ours are corrupt, a stranger's are refused
        raise Rejected("receipt_entry_malformed", cause.detail) from cause


def _read_proof(encoded: cbor.Value, size: int) -> tuple[int, tuple[bytes, ...]]:
    if not isinstance(encoded, bytes):
        raise Rejected("receipt_malformed", "expected each inclusion proof as a byte string")
    match cbor.decode(encoded, size_max=RECEIPT_BYTES_MAX):
        case [int(proof_size), int(index), [*path]] if all(isinstance(node, bytes) for node in path):
            if proof_size != size:
                raise Rejected("receipt_size_mismatch", f"the head has size {size}, the proof {proof_size}")
            return index, tuple([node for node in path if isinstance(node, bytes)])
        case _:
            pass
    raise Rejected("receipt_malformed", "expected an inclusion proof [tree size, leaf index, path]")


def _read_disclosure(value: cbor.Value, entries: Sequence[Entry]) -> tuple[int, Disclosure]:
    match value:
        case [int(at), str(name), bytes(salt), bytes(opened)] if 0 <= at < len(entries) and len(salt) == SALT_SIZE:
            # Name and commitment stand side by side in the body: a commitment cannot be shown under another name.
            if cbor.encode(name) + cbor.byte_string(commit(salt, opened)) not in entries[at].body:
                raise Rejected("receipt_disclosure_wrong", f"the value of {name!r} does not open its commitment")
            return at, Disclosure(name=name, salt=salt, value=opened)
    raise Rejected("receipt_malformed", "expected a disclosure as [entry, name, salt, value]")

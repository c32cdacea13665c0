"""The escrow parcel: what a box must not be the only one to know, sealed to the recovery recipient. Pure.

Owns the bytes, sealing, and the judgement of a parcel that comes back. Must never believe the sealing: anybody can seal
to a public key. What makes a parcel genuine are the log's own signatures inside it, over an entry that commits to all
that the parcel lists, so that whoever keeps it cannot leave a payment out or take a later entry away.

Source: docs/formats/escrow.md, version 1.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor, hpke
from appliance.crypto.hpke import Recipient
from appliance.ledger.entry import Entry, decode, entry_hash
from appliance.ledger.genesis import LogId
from appliance.ledger.log_keys import LogKeys, VouchedHead
from appliance.ledger.receipt import ReceiptBundle, verify_receipt
from appliance.model.errors import Corrupt, Rejected

PARCEL_BYTES_MAX: Final = 1 << 20
PADDED_BYTES: Final = 32 << 10
"""The plaintext is filled up to a multiple of this, so that a parcel's length tells no count of payments."""
_DOMAIN: Final = b"tillstone/escrow/v1\x00"
_KEY_ID_BYTES: Final = 32
_PAYMENT_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A payment whose money is not certain yet, and every entry of the log about it."""

    payment: bytes
    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a parcel is about; the log commits to `digest`.

    Attributes:
        origin: the log's.
        left_out: payments that wait too and that this parcel had no room for.
    """

    origin: str
    waiting: tuple[Waiting, ...]
    left_out: int

    def encode(self) -> bytes:
        return cbor.encode([1, self.origin, [[each.payment, list(each.seqs)] for each in self.waiting], self.left_out])

    @property
    def digest(self) -> bytes:
        """SHA-256 of its encoding."""
        return hashlib.sha256(self.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParcelHeader:
    """What a parcel says about itself to whoever keeps it; authenticated with its content.

    Attributes:
        size: entries in the log when it was made, the one that commits to it among them.
        key_id: SHA-256 of the recovery recipient's public key.
    """

    origin: str
    size: int
    made_ms: int
    key_id: bytes

    def encode(self) -> bytes:
        return cbor.encode([1, self.origin, self.size, self.made_ms, self.key_id])


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedParcel:
    """A genuine parcel.

    Attributes:
        entries: those of the waiting payments, by seq.
        tail: the end of the log, up to the entry that commits to the parcel.
        receipt: the receipt file that proves `entries`.
    """

    receipt: bytes
    log_id: LogId
    header: ParcelHeader
    manifest: Manifest
    entries: Mapping[int, Entry]
    tail: tuple[Entry, ...]


def seal_parcel(
    recipient: Recipient, manifest: Manifest, proven: ReceiptBundle, tail: Sequence[bytes], made_ms: int
) -> bytes:
    """The parcel. `proven` ends with the entry that commits to the manifest, and so does `tail`."""
    header = ParcelHeader(
        origin=manifest.origin, size=proven.head.size, made_ms=made_ms, key_id=recipient.key_id
    ).encode()
    content = [proven.encode(), manifest.encode(), list(tail)]
    spare = -len(cbor.encode([*content, b""])) % PADDED_BYTES
    sealed = recipient.seal(cbor.encode([*content, os.urandom(max(0, spare - 4))]), _DOMAIN + header)
    return cbor.encode([header, sealed])


def read_header(parcel: bytes) -> ParcelHeader:
    """What the parcel says of itself, not yet authenticated. Raises Rejected `escrow_malformed`."""
    return _header(_parts(parcel)[0])


def open_parcel(
    parcel: bytes,
    seed: bytes,
    logs: Mapping[LogId, LogKeys],
    origins: Mapping[LogId, str],
    kind: str,
    vouched: Collection[VouchedHead] = (),
) -> OpenedParcel:
    """Open a parcel with the recovery key, and check it against the owner's trust.

    Args:
        kind: of the entry that commits to a parcel.
    Raises:
        Rejected: `escrow_malformed`; `escrow_wrong_key`: it was sealed to another key; `escrow_changed`;
            `escrow_foreign`: of a log that the owner did not name; `escrow_not_genuine`: what is inside is not what the
            log signed, or lacks something.
    """
    header_bytes, sealed = _parts(parcel)
    header = _header(header_bytes)
    if hpke.Recipient(hpke.public_key_of(seed)).key_id != header.key_id:
        raise Rejected("escrow_wrong_key", f"sealed to the key {header.key_id.hex()[:16]}, not to this one")
    try:
        plain = hpke.open_sealed(seed, sealed, _DOMAIN + header_bytes)
    except Rejected as cause:
        raise Rejected("escrow_changed", "the parcel was changed since the box sealed it") from cause
    receipt, manifest_bytes, tail = _content(plain)
    try:
        verified = verify_receipt(receipt, logs, vouched)
    except Rejected as cause:
        if cause.code == "receipt_log_unknown":
            raise Rejected("escrow_foreign", f"{header.origin} is no log that this trust file names") from cause
        raise _not_genuine(f"its receipt does not verify: {cause.detail}") from cause
    if (origins.get(verified.log_id), verified.size) != (header.origin, header.size):
        raise _not_genuine("its header names another log or size than its receipt proves")
    manifest = _manifest(manifest_bytes)
    committed = verified.entries[-1]
    if committed.kind != kind or _digest(committed.body) != manifest.digest or manifest.origin != header.origin:
        raise _not_genuine("the log did not commit to what it lists")
    entries = {entry.seq: entry for entry in verified.entries}
    if any(seq not in entries for each in manifest.waiting for seq in each.seqs):
        raise _not_genuine("an entry that it lists is missing")
    return OpenedParcel(
        receipt=receipt,
        log_id=verified.log_id,
        header=header,
        manifest=manifest,
        entries=entries,
        tail=_chained(tail, committed),
    )


def _chained(tail: Sequence[bytes], last: Entry) -> tuple[Entry, ...]:
    """The end of the log: each entry is named by the next, up to the one that the receipt proves."""
    if not tail or tail[-1] != last.encoded:
        raise _not_genuine("the end of the log does not end with the entry that is proven")
    try:
        entries = tuple([decode(each) for each in tail])
    except Corrupt as cause:
        raise _not_genuine(f"an entry at the end of the log is malformed: {cause.detail}") from cause
    for before, after in itertools.pairwise(entries):
        if after.prev != entry_hash(before.encoded) or after.seq != before.seq + 1:
            raise _not_genuine(f"entry {after.seq} does not follow the one before it")
    return entries


def _parts(parcel: bytes) -> tuple[bytes, bytes]:
    match _decoded(parcel, PARCEL_BYTES_MAX):
        case [bytes(header), bytes(sealed)]:
            return header, sealed
        case _:
            raise Rejected("escrow_malformed", "expected a header and what is sealed")


def _header(encoded: bytes) -> ParcelHeader:
    match _decoded(encoded, PARCEL_BYTES_MAX):
        case [1, str(origin), int(size), int(made_ms), bytes(key_id)] if size > 0 and len(key_id) == _KEY_ID_BYTES:
            return ParcelHeader(origin=origin, size=size, made_ms=made_ms, key_id=key_id)
        case _:
            raise Rejected("escrow_malformed", "expected the header of a parcel of version 1")


def _content(plain: bytes) -> tuple[bytes, bytes, list[bytes]]:
    match _decoded(plain, PARCEL_BYTES_MAX):
        case [bytes(receipt), bytes(manifest), [*tail], bytes()]:
            return receipt, manifest, [each for each in tail if isinstance(each, bytes)]
        case _:
            raise _not_genuine("its content is not that of a parcel")


def _manifest(encoded: bytes) -> Manifest:
    match _decoded(encoded, PARCEL_BYTES_MAX):
        case [1, str(origin), [*waiting], int(left_out)]:
            return Manifest(origin=origin, waiting=tuple([_waiting(each) for each in waiting]), left_out=left_out)
        case _:
            raise _not_genuine("its list is malformed")


def _waiting(item: object) -> Waiting:
    match item:
        case [bytes(payment), [*seqs]] if len(payment) == _PAYMENT_BYTES:
            return Waiting(payment=payment, seqs=tuple([seq for seq in seqs if isinstance(seq, int)]))
        case _:
            raise _not_genuine("its list is malformed")


def _digest(body: bytes) -> bytes:
    match cbor.decode(body, size_max=PARCEL_BYTES_MAX):
        case {"digest": bytes(digest)}:
            return digest
        case _:
            return b""


def _decoded(encoded: bytes, size_max: int) -> object:
    try:
        return cbor.decode(encoded, size_max=size_max)
    except Rejected as cause:
        raise Rejected("escrow_malformed", f"not strict CBOR of at most {size_max} bytes") from cause


def _not_genuine(why: str) -> Rejected:
    return Rejected("escrow_not_genuine", f"the parcel is not what the log signed: {why}")

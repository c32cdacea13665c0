"""The backup's file: a header in the clear, then records, sealed to the recovery recipient. Pure.

Owns the bytes. Must never believe the sealing: anybody can seal to a public key. What makes a backup genuine is the
receipt at its end: the log signed an entry that commits to every byte before it.

Source: docs/formats/backup.md, version 1.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from appliance.crypto import cbor
from appliance.crypto.hpke import Recipient, public_key_of
from appliance.crypto.sealed_stream import SEALED_KEY_BYTES, StreamOpener, StreamSealer
from appliance.ledger.genesis import LogId
from appliance.ledger.merkle import HASH_BYTES
from appliance.ledger.pruned import PrunedEntry
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

MAGIC: Final = b"tillstone backup v1\n"
END: Final = b"\ntillstone backup end\n"
"""In the clear and trusted for nothing: it tells a file that was cut short from one that was changed."""
RECORD_BYTES_MAX: Final = 1 << 20
PIECE_BYTES: Final = 256 << 10
"""About as much goes into one record."""
_DOMAIN: Final = b"tillstone/backup/v1\x00"
_HEADER_BYTES_MAX: Final = 1 << 10
_LENGTH_BYTES: Final = 4
_LEAF_LENGTH: Final = 0xFFFFFFFF  # as in an exported log: 32 bytes of hash follow in an entry's place

SETTINGS: Final = "settings"  # {section: {...}}: the settings as the box read them
FILE: Final = "file"  # [name, bytes]: the next piece of a file
SECRETS: Final = "secrets"  # {name: bytes}
ENTRIES: Final = "entries"  # bytes: entries, each behind its length
DISCLOSURES: Final = "disclosures"  # [[seq, name, key id, ciphertext], ...]
SUBJECT_KEYS: Final = "subject_keys"  # [[id, alias, wrapped], ...]
DATA_KEYS: Final = "data_keys"  # [[id, key, made ms, is closed], ...]
TOKENS: Final = "tokens"  # [[name, data key's id, bound, sealed], ...]
RECEIPT: Final = "receipt"  # bytes: a receipt file; the last record


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupHeader:
    """What a backup says of itself to whoever keeps it, so that its age can be judged; authenticated with the rest.

    Attributes:
        size, root: the head up to which it holds the log.
        key_id: SHA-256 of the recovery recipient's public key.
    """

    origin: str
    log_id: LogId
    size: int
    root: bytes
    made_ms: int
    key_id: bytes

    def encode(self) -> bytes:
        return cbor.encode([1, self.origin, self.log_id, self.size, self.root, self.made_ms, self.key_id])


@dataclass(frozen=True, slots=True)
class Record:
    """One record; what `value` is hangs on `kind`."""

    kind: str
    value: object


class BackupWriter:
    """The file's bytes from its beginning to its end; `digest` is what the log commits to before the last record."""

    def __init__(self, recipient: Recipient, header: BackupHeader) -> None:
        encoded = header.encode()
        self._sealer = StreamSealer(recipient, _DOMAIN + encoded)
        self._hash = hashlib.sha256(encoded)
        self.beginning = MAGIC + len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded + self._sealer.sealed_key

    @property
    def digest(self) -> bytes:
        """SHA-256 of the header and of every record so far."""
        return self._hash.digest()

    def write(self, kind: str, value: object) -> bytes:
        """What the file grows by with this record; often nothing yet."""
        encoded = cbor.encode([kind, value])
        ensure(len(encoded) <= RECORD_BYTES_MAX, "a record of a backup is bounded")
        framed = len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded
        self._hash.update(framed)
        return self._sealer.write(framed)

    def end(self) -> bytes:
        """The end of the file."""
        return self._sealer.end() + END


class BackupReader:
    """Reads a file from its beginning to its end; `header` is authenticated once the first record came.

    Args:
        file: seekable, at its beginning.
        seed: the recovery key, the private one.
    """

    def __init__(self, file: BinaryIO, seed: bytes) -> None:
        """Raises Rejected: as `read_header`; `backup_wrong_key`, `backup_changed`."""
        self.header = read_header(file)
        if Recipient(public_key_of(seed)).key_id != self.header.key_id:
            raise Rejected("backup_wrong_key", f"sealed to the key {self.header.key_id.hex()[:16]}, not to this one")
        encoded = self.header.encode()
        size_bytes = os.fstat(file.fileno()).st_size - file.tell() - len(END)
        self._hash = hashlib.sha256(encoded)
        try:
            self._opener = StreamOpener(file, size_bytes, seed, _DOMAIN + encoded)
        except Rejected as cause:
            raise _changed("its beginning") from cause

    @property
    def digest(self) -> bytes:
        """SHA-256 of the header and of every record before the one that was given out last."""
        return self._hash.digest()

    def records(self) -> Iterator[Record]:
        """Every record in order; whoever reads to the end has read an unchanged, whole file.

        Raises:
            Rejected: `backup_changed`: not what was sealed; `backup_malformed`: sealed by something that is no box.
        """
        framed = b""
        rest = bytearray()
        for chunk in self._chunks():
            rest += chunk
            while len(rest) >= _LENGTH_BYTES:
                end = _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES], "big")
                if end > _LENGTH_BYTES + RECORD_BYTES_MAX:
                    raise _malformed(f"a record of at most {RECORD_BYTES_MAX} bytes")
                if len(rest) < end:
                    break
                self._hash.update(framed)
                framed = bytes(rest[:end])
                del rest[:end]
                yield _record(framed[_LENGTH_BYTES:])
        if rest:
            raise _malformed("an end behind its last record")

    def _chunks(self) -> Iterator[bytes]:
        try:
            yield from self._opener.chunks()
        except Rejected as cause:
            raise _changed(cause.detail) from cause


def read_header(file: BinaryIO) -> BackupHeader:
    """What a file says of itself, not yet authenticated; leaves `file` behind it.

    Raises:
        Rejected: `backup_malformed`: it is none; `backup_truncated`: its end is missing.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise _malformed("a backup of version 1")
    size = int.from_bytes(file.read(_LENGTH_BYTES), "big")
    if size > _HEADER_BYTES_MAX:
        raise _malformed(f"a header of at most {_HEADER_BYTES_MAX} bytes")
    encoded = file.read(size)
    at = file.tell()
    file.seek(max(at, file.seek(0, os.SEEK_END) - len(END)))
    if file.read(len(END) + 1) != END or len(encoded) != size or file.tell() < at + SEALED_KEY_BYTES + len(END):
        raise Rejected("backup_truncated", f"the file ends after {file.tell()} bytes and lacks its end")
    file.seek(at)
    return _header(encoded)


def join_entries(entries: Iterable[bytes]) -> bytes:
    """The value of an `entries` record."""
    return b"".join(
        [
            (_LEAF_LENGTH if isinstance(entry, PrunedEntry) else len(entry)).to_bytes(_LENGTH_BYTES, "big") + entry
            for entry in entries
        ]
    )


def split_entries(value: object) -> Iterator[bytes]:
    """The entries of an `entries` record. Raises Rejected `backup_malformed`."""
    if not isinstance(value, bytes):
        raise _malformed("entries as bytes")
    at = 0
    while at < len(value):
        size = int.from_bytes(value[at : at + _LENGTH_BYTES], "big")
        is_leaf = size == _LEAF_LENGTH
        at += _LENGTH_BYTES
        end = at + (HASH_BYTES if is_leaf else size)
        if end > len(value):
            raise _malformed("entries behind their lengths")
        yield PrunedEntry(value[at:end]) if is_leaf else value[at:end]
        at = end


def _header(encoded: bytes) -> BackupHeader:
    try:
        decoded = cbor.decode(encoded, size_max=_HEADER_BYTES_MAX, depth_max=1)
    except Rejected as cause:
        raise _malformed("a header in strict CBOR") from cause
    match decoded:
        case [1, str(origin), bytes(log_id), int(size), bytes(root), int(made_ms), bytes(key_id)] if (
            size > 0 and len(log_id) == len(root) == len(key_id) == HASH_BYTES
        ):
            return BackupHeader(
                origin=origin, log_id=LogId(log_id), size=size, root=root, made_ms=made_ms, key_id=key_id
            )
        case _:
            raise _malformed("the header of a backup of version 1")


def _record(encoded: bytes) -> Record:
    try:
        decoded = cbor.decode(encoded, size_max=RECORD_BYTES_MAX)
    except Rejected as cause:
        raise _malformed("records in strict CBOR") from cause
    match decoded:
        case [str(kind), value]:
            return Record(kind, value)
        case _:
            raise _malformed("records of a kind and a value")


def _malformed(expected: str) -> Rejected:
    return Rejected("backup_malformed", f"expected {expected}")


def _changed(where: str) -> Rejected:
    return Rejected("backup_changed", f"the backup was changed since the box sealed it: {where}")

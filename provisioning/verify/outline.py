"""What a file claims before anything is proven: used to word a fault or to find an entry, never to decide.

Must never raise for any bytes: what they are worth is checked by others.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.crypto import cbor, cose, signature
from appliance.ledger.entry import decode
from appliance.ledger.receipt import LOG_ID, RECEIPT_BYTES_MAX, TREE_SIZE
from appliance.ledger.tlog import read_proof
from appliance.model.errors import Corrupt, Rejected
from provisioning.verify.wording import short


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedSignature:
    """One COSE Receipt of the file: whose it says it is, and over which head."""

    algorithm: str
    key_id: bytes
    log_id: bytes
    size: int

    def __str__(self) -> str:
        return f"{self.algorithm} by key {short(self.key_id)} for log {short(self.log_id)} at size {self.size}"


def claimed_signatures(file: bytes) -> tuple[ClaimedSignature, ...]:
    """Those that can be read; none when the file cannot."""
    try:
        read = cbor.decode(file, size_max=RECEIPT_BYTES_MAX)
    except Rejected:
        return ()
    receipts = read.get("receipts") if isinstance(read, dict) else None
    claims = [_claim(item) for item in receipts] if isinstance(receipts, list) else []
    return tuple([claim for claim in claims if claim is not None])


def lacks_entry(file: bytes) -> bool:
    """Whether this is a tlog-proof without the entry that it is about."""
    try:
        return not read_proof(file).extra
    except Rejected:
        return False


def claimed_entry(receipt: bytes, file: bytes) -> bytes | None:
    """The entry of a receipt file that the tlog-proof `file` is about; None without one."""
    try:
        index = read_proof(file).index
        read = cbor.decode(receipt, size_max=RECEIPT_BYTES_MAX)
        entries = read.get("entries") if isinstance(read, dict) else None
        encoded = [each for each in entries if isinstance(each, bytes)] if isinstance(entries, list) else []
        return next((each for each in encoded if decode(each).seq == index), None)
    except (Rejected, Corrupt):
        return None


def _claim(encoded: cbor.Value) -> ClaimedSignature | None:
    if not isinstance(encoded, bytes):
        return None
    try:
        message = cose.decode_sign1(encoded, size_max=RECEIPT_BYTES_MAX)
    except Rejected:
        return None
    row = signature.ALGORITHMS.get(message.algorithm)
    match message.protected.get(LOG_ID), message.protected.get(TREE_SIZE):
        case bytes(log_id), int(size):
            name = row.name if row is not None else f"algorithm {message.algorithm}"
            return ClaimedSignature(algorithm=name, key_id=message.key_id or b"", log_id=log_id, size=size)
        case _:
            return None

"""What a receipt file claims before anything is proven: used to word a fault, never to decide.

Must never raise for any bytes: a fault is being explained already.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.crypto import cbor, cose, signature
from appliance.ledger.receipt import LOG_ID, RECEIPT_BYTES_MAX, TREE_SIZE
from appliance.model.errors import Rejected
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

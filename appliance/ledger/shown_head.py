"""A signed head by itself: what somebody shows a box whose log, they say, does not contain it.

Owns the form (the two COSE Receipts of any receipt, their proofs left out) and its verification. Must never believe a
head for who shows it: both signatures are this log's own, or it is nothing.

Source: docs/formats/receipt.md, "A head by itself".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.crypto import cbor, cose, hybrid, signature
from appliance.crypto.hybrid import Signed
from appliance.crypto.signature import KeyClass
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.receipt import LOG_ID, RECEIPT_BYTES_MAX, RFC9162_SHA256, TREE_SIZE
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

SHOWN_BYTES_MAX: Final = 8_192
"""Of one half; an ML-DSA-87 signature is 4,627 bytes, its protected header about 120."""
_NO_PROOFS: Final = cbor.encode({})


def head_of(receipt_file: bytes) -> dict[KeyClass, bytes]:
    """Both halves of the head under a receipt file that was verified."""
    halves: dict[KeyClass, bytes] = {}
    match cbor.decode(receipt_file, size_max=RECEIPT_BYTES_MAX):
        case {"receipts": [bytes(first), bytes(second)]}:
            for receipt in (first, second):
                message = cose.decode_sign1(receipt, size_max=RECEIPT_BYTES_MAX)
                key_class = signature.algorithm(message.algorithm).key_class
                halves[key_class] = cose.join_sign1(message.protected_bytes, _NO_PROOFS, None, message.signature)
        case _:
            pass
    ensure(len(halves) == len(hybrid.KEY_CLASSES), "a verified receipt file holds one receipt of each key class")
    return halves


def verify_shown_head(halves: Sequence[bytes], root: bytes, keys: LogKeys) -> int:
    """The size of the head that both halves sign, whose root is `root`.

    Raises:
        Rejected: `receipt_malformed`, `receipt_log_mismatch`, `receipt_size_mismatch`, `log_key_distrusted`, the codes
            of `hybrid.require_both` with noun "receipt", every `cbor_*` and `cose_*` code.
    """
    messages = [cose.decode_sign1(half, size_max=SHOWN_BYTES_MAX) for half in halves]
    if any(each.payload is not None or each.protected.get(cose.VDS) != RFC9162_SHA256 for each in messages):
        raise Rejected("receipt_malformed", "expected detached payloads in an RFC 9162 tree with SHA-256 (vds 1)")
    if any(each.protected.get(LOG_ID) != keys.log_id for each in messages):
        raise Rejected("receipt_log_mismatch", "expected both signatures for this log")
    match [each.protected.get(TREE_SIZE) for each in messages]:
        case [int(size), *others] if size > 0 and all(other == size for other in others):
            pass
        case _:
            raise Rejected("receipt_size_mismatch", "expected both signatures over one head")
    signed = [
        Signed(
            key_id=each.key_id or b"",
            algorithm=each.algorithm,
            to_be_signed=each.to_be_signed(root),
            signature=each.signature,
        )
        for each in messages
    ]
    hybrid.require_both(keys.at(size).keys, signed, noun="receipt")
    keys.require_trusted(size, root, ())
    return size

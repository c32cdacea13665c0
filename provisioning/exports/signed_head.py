"""The head that an exported log ends with: asked of the running box, or taken out of a receipt.

Owns nothing but the way there. Must never sign: a head is a receipt's, verified under the log's keys.
"""

from __future__ import annotations

from pathlib import Path

from appliance.crypto import cbor, cose
from appliance.crypto.hybrid import PinnedKey
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.receipt import RECEIPT_BYTES_MAX, HeadSignature, SignedHead, verify_receipt
from appliance.model.errors import Rejected, Unavailable
from provisioning.commands.outcome import CannotDo
from provisioning.local_door import LocalDoor


def newest_head(folder: Path, log_keys: LogKeys) -> SignedHead:
    """The head of a receipt for the newest entry, from the box that runs on `folder`."""
    try:
        receipt = LocalDoor(folder).newest_receipt()
    except Unavailable as cause:
        raise CannotDo(
            f"an exported log ends with a signed head, and the box gives none: {cause.detail} ({cause.code})",
            "tillstone status says how the box is; or end at a receipt that it made: --receipt FILE",
        ) from cause
    return head_of(receipt, log_keys)


def head_of(receipt: bytes, log_keys: LogKeys) -> SignedHead:
    """The head of `receipt`, which must be of the log with these keys.

    Raises:
        Rejected: the codes of `verify_receipt`; another log's receipt is `receipt_log_unknown`.
    """
    verified = verify_receipt(receipt, {log_keys.log_id: log_keys})
    keys = log_keys.at(verified.size).keys
    return SignedHead(
        log_id=verified.log_id,
        size=verified.size,
        root=verified.root,
        classical=_half(receipt, keys.classical),
        post_quantum=_half(receipt, keys.post_quantum),
    )


def _half(receipt: bytes, pinned: PinnedKey) -> HeadSignature:
    read = cbor.decode(receipt, size_max=RECEIPT_BYTES_MAX)
    receipts = read["receipts"] if isinstance(read, dict) else None
    for encoded in receipts if isinstance(receipts, list) else []:
        if isinstance(encoded, bytes):
            message = cose.decode_sign1(encoded, size_max=RECEIPT_BYTES_MAX)
            if message.key_id == pinned.key_id:
                return HeadSignature(protected=message.protected_bytes, signature=message.signature)
    raise Rejected("receipt_malformed", "expected a signature by each key of the log")

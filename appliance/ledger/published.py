"""The log's word on a publication: under which address a head of it was published.

Owns the signed text. Must never be mistaken for a checkpoint: its first line is no origin and its second no number.

A root block alone proves nothing of itself: whoever changes a byte has another block under another address. Signed by
both keys of the log, the address and with it every byte of the root is what the box says it published.

Source: docs/formats/publication.md, "Signed address".
"""

from __future__ import annotations

from typing import Final

from appliance.evidence.cid import cid_text
from appliance.ledger.checkpoint import key_hash, read_signatures, require_signatures
from appliance.ledger.log_keys import KeyPeriod, LogKeys
from appliance.model.errors import Rejected
from appliance.model.ids import Cid

_HEADING: Final = "tillstone/published/v1"
_LINES: Final = 2


def published_text(origin: str, size: int, cid: Cid) -> bytes:
    """The signed bytes: the head of `size` entries of the log `origin` was published under `cid`."""
    return f"{_HEADING}\n{origin}\n{size}\n{cid_text(cid)}\n".encode()


def verify_published(signatures: bytes, *, origin: str, size: int, cid: Cid, keys: LogKeys) -> KeyPeriod:
    """Whose word it is: the newest keys of the log whose two lines `signatures` are, no more and no others.

    A bundle is gathered when somebody asks, so keys that came after the head may have signed; whether the owner still
    trusts them is for the caller to ask.

    Raises:
        Rejected: `checkpoint_malformed`, `checkpoint_signature_missing`, `checkpoint_signature_wrong`.
    """
    lines = read_signatures(signatures)
    if len(lines) != _LINES:
        raise Rejected("checkpoint_signature_missing", f"expected {_LINES} signature lines, saw {len(lines)}")
    hashes = {raw[:4] for _, raw in lines}
    period = next(
        (
            each
            for each in reversed(keys.periods)
            if key_hash(origin, each.keys.post_quantum.algorithm, each.keys.post_quantum.public_key) in hashes
        ),
        keys.newest,
    )
    require_signatures(
        published_text(origin, size, cid),
        lines,
        origin=origin,
        note_key=period.note_key,
        post_quantum=period.keys.post_quantum,
    )
    return period

"""The link on a slip: a page's address, and in its fragment a receipt small enough for a QR code.

Owns what goes into the fragment. Must never call it more than it is: one of the two signatures, the classical one;
ML-DSA-87 alone is larger than any QR code.

* A fragment stays in the browser: whoever serves the page never learns which sale somebody checks.

Source: docs/formats/slip-link.md, version 1.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Final

from appliance.crypto import cbor, cose
from appliance.ledger.entry import decode, entry_hash
from appliance.ledger.receipt import INCLUSION, RECEIPT_BYTES_MAX
from appliance.model.errors import Rejected
from appliance.slip.slip import answered_by

PREFIX: Final = "1."
"""Version of the fragment."""
LINK_CHARACTERS_MAX: Final = 2_431
"""A QR code of version 36 at level L: 161 modules, 0.375 mm each on paper of 80 mm (203 dots to the inch)."""


def proof_link(page_url: str, receipt_file: bytes) -> str | None:
    """The link that proves the newest entry of `receipt_file` and the sale it is about; None when it is too long.

    Raises:
        Rejected: `receipt_malformed`, and the codes of `cbor` and `cose`: this is no receipt file.
    """
    link = f"{page_url}#{fragment(receipt_file)}"
    return link if len(link) <= LINK_CHARACTERS_MAX else None


def fragment(receipt_file: bytes) -> str:
    """The receipt file with the entries that tell the standing, its classical signature and no disclosures, packed."""
    match cbor.decode(receipt_file, size_max=RECEIPT_BYTES_MAX):
        case {"entries": [*found], "receipts": [*receipts], "version": 1} if entries := [
            entry for entry in found if isinstance(entry, bytes)
        ]:
            chosen = _chosen(entries)
            small = {
                "entries": [entries[at] for at in chosen],
                "version": 1,
                "receipts": [_with_proofs(_classical(receipts), chosen)],
                "disclosures": [],
            }
        case _:
            raise Rejected("receipt_malformed", "expected a receipt file of version 1")
    deflate = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS)
    packed = deflate.compress(cbor.encode(small)) + deflate.flush()
    return PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _chosen(entries: Sequence[bytes]) -> list[int]:
    """Places of the first entry, of the newest, and of the intent that this answers."""
    answered = answered_by(decode(entries[-1]))
    return [at for at, each in enumerate(entries) if at in (0, len(entries) - 1) or entry_hash(each) == answered]


def _classical(receipts: list[cbor.Value]) -> cose.Sign1:
    read = [cose.decode_sign1(one, size_max=RECEIPT_BYTES_MAX) for one in receipts if isinstance(one, bytes)]
    for message in read:
        if message.algorithm != cose.ML_DSA_87:
            return message
    raise Rejected("receipt_malformed", "expected a classical signature")


def _with_proofs(message: cose.Sign1, chosen: list[int]) -> bytes:
    match message.unprotected:
        case {cose.VDP: {-1: [*proofs]}} if len(proofs) > chosen[-1]:
            unprotected = cbor.encode({cose.VDP: {INCLUSION: [proofs[at] for at in chosen]}})
            return cose.join_sign1(message.protected_bytes, unprotected, None, message.signature)
        case _:
            raise Rejected("receipt_malformed", "expected one inclusion proof for each entry")

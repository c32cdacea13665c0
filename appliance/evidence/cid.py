"""Content addresses: CIDv1 over SHA-256, of raw and dag-cbor blocks.

Owns the 36 bytes and their text. Must never accept another version, hash or codec: a CID here is compared as bytes, and
each block has one. UnixFS is left out on purpose, because its CIDs depend on the importer's settings.

Source: docs/formats/publication.md; https://github.com/multiformats/cid (version 1), multicodec and multihash tables.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, NewType

from appliance.model.errors import Rejected

Cid = NewType("Cid", bytes)
"""version 1, codec, 0x12 0x20 (SHA-256 of 32 bytes), digest."""

CID_BYTES: Final = 36
_CID_TEXT_CHARACTERS: Final = 59
_VERSION_1: Final = b"\x01"
_RAW: Final = b"\x55"
_DAG_CBOR: Final = b"\x71"
_SHA_256: Final = b"\x12\x20"
_HEADS: Final = (_VERSION_1 + _RAW + _SHA_256, _VERSION_1 + _DAG_CBOR + _SHA_256)


def raw_cid(block: bytes) -> Cid:
    """The address of bytes that nobody interprets."""
    return Cid(_HEADS[0] + hashlib.sha256(block).digest())


def dag_cbor_cid(block: bytes) -> Cid:
    """The address of a dag-cbor block (`dag_cbor.py`)."""
    return Cid(_HEADS[1] + hashlib.sha256(block).digest())


def is_of(cid: Cid, block: bytes) -> bool:
    """Whether `block` is what `cid` addresses."""
    return cid[4:] == hashlib.sha256(block).digest()


def is_raw(cid: Cid) -> bool:
    """Whether `cid` addresses a raw block."""
    return cid[:4] == _HEADS[0]


def read_cid(encoded: bytes) -> Cid:
    """The CID in `encoded`. Raises Rejected `cid_malformed`."""
    if len(encoded) != CID_BYTES or encoded[:4] not in _HEADS:
        raise Rejected("cid_malformed", "expected a CIDv1 of a raw or dag-cbor block by SHA-256")
    return Cid(encoded)


def cid_text(cid: Cid) -> str:
    """Multibase base32, lower case: what people and nodes write."""
    return "b" + base64.b32encode(cid).decode().rstrip("=").lower()


def parse_cid(text: str) -> Cid:
    """The CID of its base32 text, in its one form. Raises Rejected `cid_malformed`."""
    try:
        if len(text) != _CID_TEXT_CHARACTERS or text[0] != "b":
            raise ValueError
        cid = read_cid(base64.b32decode(text[1:].upper() + "======"))
    except (ValueError, binascii.Error) as cause:
        raise Rejected("cid_malformed", f"expected b and 58 characters of base32, saw {text[:80]!r}") from cause
    if cid_text(cid) != text:
        raise Rejected("cid_malformed", "expected base32 in lower case without stray bits")
    return cid

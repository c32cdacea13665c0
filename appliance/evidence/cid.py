"""Content addresses: CIDv1 over SHA-256, of raw and dag-cbor blocks.

Owns the 36 bytes and their text. Must never accept another version, hash or codec: a CID here is compared as bytes, and
each block has one. UnixFS is left out on purpose, because its CIDs depend on the importer's settings.

Source: docs/formats/publication.md; https://github.com/multiformats/cid (version 1), multicodec and multihash tables.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from appliance.model.errors import Rejected
from appliance.model.ids import Cid

CID_BYTES: Final = 36
_TEXT_CHARACTERS_MAX: Final = 64
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
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
    """The CID of a text, whichever base a node writes it in: base32 (b) or base58btc (z).

    Raises:
        Rejected: `cid_malformed`; also for a second way to write the same CID in that base.
    """
    try:
        if len(text) > _TEXT_CHARACTERS_MAX or text[:1] not in ("b", "z"):
            raise ValueError
        cid = read_cid(_from_base58(text[1:]) if text[0] == "z" else base64.b32decode(text[1:].upper() + "======"))
    except (ValueError, binascii.Error) as cause:
        raise Rejected("cid_malformed", f"expected a CIDv1 in base32 or base58btc, saw {text[:80]!r}") from cause
    if text[0] == "b" and cid_text(cid) != text:
        raise Rejected("cid_malformed", "expected base32 in lower case without stray bits")
    return cid


def _from_base58(text: str) -> bytes:
    # A CIDv1 begins with 0x01, so its number has one text: no leading "1" stands for a zero byte.
    number = 0
    for character in text:
        number = number * 58 + _BASE58.index(character)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")

"""Takes a signed request apart: COSE_Sign1 over CBOR, or JWS over JSON. One shape comes out, not yet believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import msgspec

from appliance.crypto import cbor, cose, jws, signature
from appliance.model.errors import Rejected
from appliance.model.ids import KeyId
from appliance.model.limits import NESTING_MAX
from appliance.wire.faults import explain
from appliance.wire.requests import Claims


class Encoding(Enum):
    """How a request came, and so how its answer goes out."""

    COSE = "application/cose"
    JOSE = "application/jose"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """A request as claimed.

    Attributes:
        raw: the bytes as they came.
        is_signed_by: whether the owner of a public key (SPKI DER) made the signature.
    """

    encoding: Encoding
    raw: bytes
    key_id: KeyId
    claims: Claims
    is_signed_by: Callable[[bytes], bool]


def decode_signed(raw: bytes, encoding: Encoding, *, size_max: int) -> SignedRequest:
    """Read `raw`, strictly.

    Raises:
        Rejected: what is not canonical, too large, too deep, doubled or unknown, by its own code.
    """
    if encoding is Encoding.COSE:
        return _decode_cose(raw, size_max)
    token = jws.decode(raw, size_max=size_max, depth_max=NESTING_MAX)
    return SignedRequest(
        encoding=encoding,
        raw=raw,
        key_id=KeyId(token.key_id),
        claims=_claims(token.payload),
        is_signed_by=token.is_signed_by,
    )


def _decode_cose(raw: bytes, size_max: int) -> SignedRequest:
    message = cose.decode_sign1(raw, size_max=size_max)
    key_id = message.key_id
    if key_id is None or message.payload is None:
        raise Rejected("cose_incomplete", "expected a key id in the protected header and an attached payload")
    to_be_signed = message.to_be_signed()
    if message.algorithm not in (cose.ES256, cose.ESP256):
        raise Rejected("algorithm_unsupported", "terminals sign with ES256")

    def is_signed_by(public_key: bytes) -> bool:
        return signature.verify(message.algorithm, public_key, to_be_signed, message.signature)

    payload = cbor.decode(message.payload, size_max=size_max, depth_max=NESTING_MAX)
    return SignedRequest(
        encoding=Encoding.COSE,
        raw=raw,
        key_id=KeyId(key_id),
        claims=_claims(payload),
        is_signed_by=is_signed_by,
    )


def _claims(payload: object) -> Claims:
    try:
        return msgspec.convert(payload, Claims)
    except msgspec.ValidationError as fault:
        raise Rejected("claims_invalid", explain(fault)) from None

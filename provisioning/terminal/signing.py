"""Signed requests and readable answers, in the two encodings of the protocol.

Owns the bytes that travel: COSE_Sign1 around CBOR, JWS compact around JSON. Must never decide what is said or when.

Source: docs/formats/terminal-protocol.md section 3; RFC 9052 section 4.2, RFC 7515 section 7.1.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from appliance.crypto import cbor, cose, jws
from appliance.crypto.signing_key import TerminalKey
from appliance.model.errors import OutcomeUnknown, Rejected
from appliance.model.limits import BATCH_BYTES_MAX
from appliance.wire.requests import Claims, Wire

WireT = TypeVar("WireT", bound=Wire)

ANSWER_BYTES_MAX: Final = 2 * BATCH_BYTES_MAX


class Encoding(StrEnum):
    """How a terminal speaks; the value is the content type of its requests."""

    COSE = "application/cose"
    JWS = "application/jose"


def sign(key: TerminalKey, claims: Claims, encoding: Encoding) -> bytes:
    """The request's body."""
    return sign_cose(key, claims) if encoding is Encoding.COSE else sign_jws(key, claims)


def sign_cose(key: TerminalKey, claims: Claims) -> bytes:
    """COSE_Sign1, tagged; algorithm and key id stand in the protected header."""
    protected = cose.encode_protected({cose.ALG: key.algorithm, cose.KEY_ID: key.key_id})
    payload = cbor.encode(msgspec.to_builtins(claims))
    signature = key.sign(cose.sign1_to_be_signed(protected, payload))
    return cose.encode_sign1(protected, {}, payload, signature)


def sign_jws(key: TerminalKey, claims: Claims) -> bytes:
    """JWS compact serialisation; also what the `Authorization` header of the event stream carries."""
    return jws.sign(key, msgspec.json.encode(claims))


def read_answer(content_type: str, body: bytes, expected: type[WireT]) -> WireT:
    """`body` as an `expected`; members that this client does not know are passed over.

    Raises:
        OutcomeUnknown: `answer_unreadable`: what the box did cannot be told from this.
    """
    try:
        if content_type == "application/cbor":
            value: object = cbor.decode(body, size_max=ANSWER_BYTES_MAX)
        elif content_type in ("application/json", "application/problem+json"):
            value = msgspec.json.decode(body)
        else:
            raise OutcomeUnknown("answer_unreadable", f"expected CBOR or JSON, saw {content_type[:60]!r}")
        if not isinstance(value, dict):
            raise OutcomeUnknown("answer_unreadable", "expected a map")
        known = {name: value[name] for name in expected.__struct_fields__ if name in value}
        # In CBOR bytes are bytes; in JSON they are base64 text, which `convert` reads.
        return msgspec.convert(known, expected, builtin_types=(bytes,) if content_type == "application/cbor" else None)
    except (msgspec.MsgspecError, Rejected, UnicodeDecodeError) as cause:
        raise OutcomeUnknown("answer_unreadable", f"expected a {expected.__name__}, saw {len(body)} bytes") from cause

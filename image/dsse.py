"""DSSE envelopes around in-toto statements. Owns their form and that both release keys have signed.

A signature covers the payload's type and its bytes as they are, so nothing is parsed before both signatures hold.

Source: DSSE 1.0.2 (protocol.md, envelope.md); in-toto attestation framework, spec/v1/envelope.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from appliance.crypto.hybrid import KEY_CLASSES, HybridPublic, Signed, require_both
from appliance.crypto.signing_key import SigningKey
from appliance.model.errors import Rejected

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
ENVELOPE_BYTES_MAX: Final = 4 * 2**20


class _Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Unknown fields are passed over, as DSSE asks; bytes are base64."""

    keyid: str
    sig: bytes


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    payload_type: str = msgspec.field(name="payloadType")
    payload: bytes
    signatures: tuple[_Signature, ...]


def seal(payload: bytes, keys: Sequence[SigningKey]) -> bytes:
    """The envelope, JSON, with one signature of each key; a key's name is its `key_id` in hexadecimal."""
    signed = pre_authentication_encoding(payload)
    signatures = tuple(_Signature(keyid=key.key_id.hex(), sig=key.sign(signed)) for key in keys)
    envelope = _Envelope(payload_type=PAYLOAD_TYPE, payload=payload, signatures=signatures)
    return msgspec.json.format(msgspec.json.encode(envelope), indent=1) + b"\n"


def unseal(envelope: bytes, pinned: HybridPublic) -> bytes:
    """The payload, if both pinned keys have signed it and nobody else has.

    Raises:
        Rejected: `dsse_malformed`; the codes of `hybrid.require_both` with noun "signature".
    """
    if len(envelope) > ENVELOPE_BYTES_MAX:
        raise Rejected("dsse_malformed", f"expected at most {ENVELOPE_BYTES_MAX} bytes, saw {len(envelope)}")
    try:
        read = msgspec.json.decode(envelope, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise Rejected("dsse_malformed", "expected a DSSE envelope in JSON") from cause
    if read.payload_type != PAYLOAD_TYPE:
        raise Rejected("dsse_malformed", f"expected a payload of type {PAYLOAD_TYPE}")
    # A signature names its key and the pinned key names the algorithm: the message chooses neither.
    algorithms = {key.key_id.hex(): key.algorithm for key in map(pinned.of, KEY_CLASSES)}
    signed = pre_authentication_encoding(read.payload)
    require_both(
        pinned,
        [
            Signed(key_id=_octets(each.keyid), algorithm=algorithms.get(each.keyid, 0), to_be_signed=signed,
                   signature=each.sig)
            for each in read.signatures
        ],
    )  # fmt: skip
    return read.payload


def pre_authentication_encoding(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """What is signed: type and payload with their lengths, so that no payload passes for another type's."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _octets(key_id: str) -> bytes:
    try:
        return bytes.fromhex(key_id)
    except ValueError:
        return b""

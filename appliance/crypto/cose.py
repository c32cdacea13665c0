"""COSE_Sign1 (RFC 9052) by hand: exact bytes out, nothing but the exact bytes in.

Owns the structure and the algorithm numbers. Must never verify a signature (that is `signature.py`) nor choose an
algorithm: `alg` has to stand in the protected header and the caller compares it with the pinned key.

Source: docs/formats/cose.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure

# Fully specified algorithms (RFC 9864) and ML-DSA (RFC 9964): what we emit.
ESP256: Final = -9
ESP384: Final = -51
ED25519: Final = -19
ML_DSA_44: Final = -48
ML_DSA_65: Final = -49
ML_DSA_87: Final = -50
# Polymorphic algorithms (RFC 9053), accepted from terminals whose platform knows nothing newer; the pinned key fixes
# the curve.
ES256: Final = -7
ES384: Final = -35
EDDSA: Final = -8

# Header labels (RFC 9052 section 3.1, RFC 9597, RFC 9942).
ALG: Final = 1
CRIT: Final = 2
CONTENT_TYPE: Final = 3
KEY_ID: Final = 4
CWT_CLAIMS: Final = 15
RECEIPTS: Final = 394
VDS: Final = 395
VDP: Final = 396

SIGN1_TAG: Final = 18
_TAG_BYTES: Final = b"\xd2"
_SIGN1_ARRAY: Final = b"\x84"
_NIL: Final = b"\xf6"
_SIGNATURE1: Final = b"\x84\x6aSignature1"

Headers = dict[str | int, cbor.Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign1:
    """A COSE_Sign1 taken apart; nothing about it is believed yet.

    Attributes:
        protected_bytes: as received and as signed.
        payload: None when detached.
    """

    protected_bytes: bytes
    protected: Headers
    unprotected: Headers
    payload: bytes | None
    signature: bytes

    @property
    def algorithm(self) -> int:
        """`alg` of the protected header; `decode_sign1` proved that it is there."""
        algorithm = self.protected[ALG]
        ensure(type(algorithm) is int, "alg is an integer in every decoded COSE_Sign1")
        return algorithm  # type: ignore[return-value] # ensured above

    @property
    def key_id(self) -> bytes | None:
        """`kid` of the protected header; one in the unprotected header is not read."""
        key_id = self.protected.get(KEY_ID)
        return key_id if type(key_id) is bytes else None

    def to_be_signed(self, detached_payload: bytes | None = None, external_aad: bytes = b"") -> bytes:
        """The bytes under the signature.

        Raises:
            Rejected: `cose_payload_missing` or `cose_payload_ambiguous`: exactly one payload must exist.
        """
        if self.payload is None and detached_payload is None:
            raise Rejected("cose_payload_missing", "the payload is detached and none was given")
        if self.payload is not None and detached_payload is not None:
            raise Rejected("cose_payload_ambiguous", "expected a detached payload, saw one inside")
        payload = detached_payload if self.payload is None else self.payload
        return sign1_to_be_signed(self.protected_bytes, payload or b"", external_aad)


def encode_protected(headers: Headers) -> bytes:
    """The bytes of a protected header; an empty map is the empty string (RFC 9052 section 3)."""
    return cbor.encode(headers) if headers else b""


def sign1_to_be_signed(protected: bytes, payload: bytes, external_aad: bytes = b"") -> bytes:
    """Sig_structure of RFC 9052 section 4.4."""
    return b"".join(
        (
            _SIGNATURE1,
            cbor.bytes_head(len(protected)),
            protected,
            cbor.bytes_head(len(external_aad)),
            external_aad,
            cbor.bytes_head(len(payload)),
            payload,
        )
    )


def encode_sign1(
    protected: bytes, unprotected: Headers, payload: bytes | None, signature: bytes, *, tagged: bool = True
) -> bytes:
    """COSE_Sign1; receipts carry tag 18 (RFC 9942 section 5), `payload` None is a detached one."""
    return join_sign1(protected, cbor.encode(unprotected), payload, signature, tagged=tagged)


def join_sign1(
    protected: bytes, unprotected: bytes, payload: bytes | None, signature: bytes, *, tagged: bool = True
) -> bytes:
    """The same from an unprotected header that is encoded already."""
    return b"".join(
        (
            _TAG_BYTES if tagged else b"",
            _SIGN1_ARRAY,
            cbor.byte_string(protected),
            unprotected,
            _NIL if payload is None else cbor.byte_string(payload),
            cbor.byte_string(signature),
        )
    )


def decode_sign1(data: bytes, *, size_max: int) -> Sign1:
    """Take a COSE_Sign1 apart, tagged or not.

    Raises:
        Rejected: every `cbor_*` code; `cose_malformed` (not the four members), `cose_algorithm_missing` (no integer
            `alg` in the protected header), `cose_critical_header` (`crit` is not supported), `cose_duplicate_header`.
    Source: docs/formats/cose.md.
    """
    body = data[1:] if data[:1] == _TAG_BYTES else data
    message = cbor.decode(body, size_max=size_max)
    if type(message) is not list or len(message) != 4:
        raise Rejected("cose_malformed", "expected an array of four members")
    protected_bytes, unprotected, payload, signature = message
    if type(protected_bytes) is not bytes or type(unprotected) is not dict or type(signature) is not bytes:
        raise Rejected("cose_malformed", "expected bytes, map, bytes or null, bytes")
    if payload is not None and type(payload) is not bytes:
        raise Rejected("cose_malformed", "expected the payload as bytes or null")
    protected = cbor.decode(protected_bytes, size_max=size_max) if protected_bytes else {}
    if type(protected) is not dict:
        raise Rejected("cose_malformed", "expected the protected header as a map")
    _check_headers(protected, unprotected)
    return Sign1(
        protected_bytes=protected_bytes,
        protected=protected,
        unprotected=unprotected,
        payload=payload,
        signature=signature,
    )


def _check_headers(protected: Headers, unprotected: Headers) -> None:
    if type(protected.get(ALG)) is not int:
        raise Rejected("cose_algorithm_missing", "expected an integer alg (label 1) in the protected header")
    if CRIT in protected or CRIT in unprotected:
        raise Rejected("cose_critical_header", "crit (label 2) is not supported")
    # RFC 9052 section 3: a label occurs once in both headers together; otherwise two readers may believe two things.
    twice = protected.keys() & unprotected.keys()
    if twice:
        raise Rejected("cose_duplicate_header", f"{len(twice)} labels stand in both headers")
    if KEY_ID in protected and type(protected[KEY_ID]) is not bytes:
        raise Rejected("cose_malformed", "expected kid (label 4) as bytes")

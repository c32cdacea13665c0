"""JWS compact (RFC 7515), ES256 over JSON: the second spelling of a signed request, for callers without COSE.

Owns three strict parts and a header of three members. Must never verify (that is `signature.py`) and never let the
header choose the key type: `alg` is ES256 or refused. Only canonical base64url without padding is read, so one token
has one spelling (RFC 7515 section 2; RFC 4648 section 3.5).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Final, Protocol

from appliance.crypto import cose, signature, strict_json
from appliance.model.errors import Rejected

_HEADER_MEMBERS: Final = frozenset({"alg", "kid", "typ"})
_HEADER_SIZE_MAX: Final = 512
_SIGNATURE_SIZE: Final = 64
_KEY_ID_SIZE: Final = 32
_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_-]*\Z")


class Es256Signer(Protocol):
    """A P-256 key that signs raw r || s; `signing_key.TerminalKey` is one."""

    @property
    def key_id(self) -> bytes: ...
    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Jws:
    """A token taken apart; nothing about it is believed yet.

    Attributes:
        key_id: 32 bytes, SHA-256 of the SubjectPublicKeyInfo that is said to have signed.
        type: `typ`, or None.
        signed_bytes: the bytes under the signature.
    """

    key_id: bytes
    type: str | None
    payload: strict_json.Value
    signed_bytes: bytes
    signature: bytes

    @property
    def algorithm(self) -> int:
        """COSE id of the only algorithm that JWS has here."""
        return cose.ES256

    def is_signed_by(self, public_key: bytes) -> bool:
        """True if the owner of this P-256 `public_key` (SubjectPublicKeyInfo) signed."""
        return signature.verify(cose.ES256, public_key, self.signed_bytes, self.signature)


def decode(token: bytes, *, size_max: int, depth_max: int = strict_json.DEPTH_MAX) -> Jws:
    """Take a token apart.

    Raises:
        Rejected: `jws_too_large`, `jws_malformed` (parts, base64url), `jws_header_refused` (a member outside alg, kid,
            typ, or of another form; `crit` is one), `jws_algorithm_refused`, and every `json_*` code.
    """
    if len(token) > size_max:
        raise Rejected("jws_too_large", f"expected at most {size_max} bytes, saw {len(token)}")
    parts = token.split(b".")
    if len(parts) != 3:
        raise Rejected("jws_malformed", f"expected 3 parts, saw {len(parts)}")
    header = strict_json.decode(from_base64url(parts[0]), size_max=_HEADER_SIZE_MAX, depth_max=2)
    key_id, media_type = _read_header(header)
    raw_signature = from_base64url(parts[2])
    if len(raw_signature) != _SIGNATURE_SIZE:
        raise Rejected("jws_malformed", f"expected a signature of {_SIGNATURE_SIZE} bytes, saw {len(raw_signature)}")
    return Jws(
        key_id=key_id,
        type=media_type,
        payload=strict_json.decode(from_base64url(parts[1]), size_max=size_max, depth_max=depth_max),
        signed_bytes=parts[0] + b"." + parts[1],
        signature=raw_signature,
    )


def sign(key: Es256Signer, payload: bytes, *, media_type: str | None = None) -> bytes:
    """The token of a JSON `payload`, as a terminal makes it."""
    header_members = {"alg": "ES256", "kid": to_base64url(key.key_id).decode()}
    if media_type is not None:
        header_members["typ"] = media_type
    header = json.dumps(header_members, separators=(",", ":")).encode()
    signed_bytes = to_base64url(header) + b"." + to_base64url(payload)
    return signed_bytes + b"." + to_base64url(key.sign(signed_bytes))


def to_base64url(data: bytes) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def from_base64url(text: bytes) -> bytes:
    """The bytes of canonical base64url without padding; Rejected `jws_malformed` otherwise."""
    if not _BASE64URL.match(text):
        raise Rejected("jws_malformed", "expected base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error as cause:
        raise Rejected("jws_malformed", "expected base64url, saw an impossible length") from cause
    if to_base64url(data) != text:
        raise Rejected("jws_malformed", "expected canonical base64url, saw unused bits that are not zero")
    return data


def _read_header(header: strict_json.Value) -> tuple[bytes, str | None]:
    if not isinstance(header, dict) or not header.keys() <= _HEADER_MEMBERS:
        raise Rejected("jws_header_refused", "expected an object with alg, kid and optionally typ, nothing else")
    if header.get("alg") != "ES256":
        raise Rejected("jws_algorithm_refused", "expected alg ES256")
    key_id_text, media_type = header.get("kid"), header.get("typ")
    if not isinstance(key_id_text, str) or not key_id_text.isascii():
        raise Rejected("jws_header_refused", "expected kid: base64url of the SHA-256 of the SubjectPublicKeyInfo")
    key_id = from_base64url(key_id_text.encode())
    if len(key_id) != _KEY_ID_SIZE:
        raise Rejected("jws_header_refused", f"expected a kid of {_KEY_ID_SIZE} bytes, saw {len(key_id)}")
    if media_type is not None and not isinstance(media_type, str):
        raise Rejected("jws_header_refused", "expected typ as text")
    return key_id, media_type

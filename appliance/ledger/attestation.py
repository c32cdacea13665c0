"""Attestation: what a quote of the box's TPM vouches for, and the owner's word for the key that signs it.

Owns the bytes of the `attestation` statement and of what a quote is bound to. Must never judge a quote, nor sign.

* The key's name covers each of its attributes; the endorsement certificate says whose TPM it is. The owner's statement
  is handed over encrypted so that only a TPM with both keys opens it (credential activation): to have it is the proof.

Source: docs/formats/attestation.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor
from appliance.ledger.entry import ENTRY_BYTES_MAX, HASH_BYTES
from appliance.ledger.genesis import LogId
from appliance.model.errors import Rejected

CERTIFICATE: Final = "attestation"  # the kind of the owner's statement
CERTIFICATE_BYTES_MAX: Final = ENTRY_BYTES_MAX
NONCE_BYTES: Final = 32
_DOMAIN: Final = b"tillstone/attestation/v1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationStatement:
    """What the owner signs: quotes by this key are this log's box.

    Attributes:
        key: TPMT_PUBLIC of the attestation key.
        endorsement_certificate: DER, of the endorsement key of the TPM that holds it.
        maker: SHA-256 of the root certificate (DER) to which the owner followed the endorsement certificate; None
            where nobody did, as for a software TPM.
    """

    log_id: LogId
    key: bytes
    endorsement_certificate: bytes
    maker: bytes | None
    created_ms: int

    def require_of(self, log_id: LogId, key: bytes) -> None:
        """Raises Rejected `attestation_of_another_box` unless it is about this log and this key (TPMT_PUBLIC)."""
        if (self.log_id, self.key) != (log_id, key):
            raise Rejected("attestation_of_another_box", "the owner certified another log or another key")

    def encode(self) -> bytes:
        """The bytes that the owner signs."""
        return cbor.encode(
            {
                "created": self.created_ms,
                "endorsement": self.endorsement_certificate,
                "key": self.key,
                "log": self.log_id,
                "maker": self.maker,
                "version": 1,
            }
        )


def read_attestation_statement(encoded: bytes) -> AttestationStatement:
    """A statement, signed or not. Raises Rejected `attestation_statement_malformed` and every `cbor_*` code."""
    match cbor.decode(encoded, size_max=CERTIFICATE_BYTES_MAX):
        case {
            "version": 1,
            "log": bytes(log_id),
            "key": bytes(key),
            "endorsement": bytes(endorsement_certificate),
            "maker": (None | bytes()) as maker,
            "created": int(created_ms),
            **rest,
        } if not rest and len(log_id) == HASH_BYTES and created_ms >= 0 and (maker is None or len(maker) == HASH_BYTES):
            return AttestationStatement(
                log_id=LogId(log_id),
                key=key,
                endorsement_certificate=endorsement_certificate,
                maker=maker,
                created_ms=created_ms,
            )
    raise Rejected("attestation_statement_malformed", "expected an attestation statement of version 1")


def qualifying_data(*, nonce: bytes, log_id: LogId, tls_sha256: bytes, version: str, image: str) -> bytes:
    """The 32 bytes that the TPM signs as the quote's nonce: the asker's nonce, bound to the box and to its door.

    Args:
        tls_sha256: SHA-256 of the certificate (DER) of the terminals' door: a quote that was fetched from the true box
            and shown by another one names the wrong door.
        version, image: what the box says that it runs; `image` is empty outside an image.
    """
    bound = {"image": image, "log": log_id, "nonce": nonce, "tls": tls_sha256, "version": version}
    return hashlib.sha256(_DOMAIN + cbor.encode(bound)).digest()

"""How the attestation key of a box gets its owner's word: asked for by the box, given sealed, opened by its TPM.

Owns the two files that are carried, `attestation.request` and `attestation.sealed`. Its rules:
- the statement leaves the owner's computer encrypted to the endorsement key and bound to the attestation key's name
  (credential activation, TPM 2.0 part 1, 24): whoever has it in clear has a TPM that holds both;
- the owner follows the endorsement certificate to the TPM's maker, or says in the statement that nobody did.

Source: docs/formats/attestation.md, "The owner's word".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.crypto import cbor
from appliance.crypto.owner import STATEMENT_SIZE_MAX, OwnerPublic, SignedStatement
from appliance.ledger.attestation import CERTIFICATE, AttestationStatement, read_attestation_statement
from appliance.ledger.genesis import LogId
from appliance.model.errors import Rejected
from drivers.tpm.bundle import TpmBundle
from drivers.tpm.context import TpmContext
from drivers.tpm.credential import Challenge, answer_challenge, make_challenge
from drivers.tpm.errors import TpmForeign, TpmRefused
from drivers.tpm.quote_check import QuoteRefused, object_name, read_attestation_key
from provisioning.attest.maker import follow_to_maker, root_sha256

REQUEST_BYTES_MAX: Final = 64 << 10
_AAD: Final = b"tillstone/attestation-certificate/v1"
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """What a box asks of its owner.

    Attributes:
        statement: what is to be signed, without a maker.
        endorsement_key: TPMT_PUBLIC.
    """

    statement: AttestationStatement
    endorsement_key: bytes

    def encode(self) -> bytes:
        """The file `attestation.request`."""
        return cbor.encode({"endorsement_key": self.endorsement_key, "statement": self.statement.encode()})


def make_request(bundle: TpmBundle, log_id: LogId, now: datetime) -> CertificateRequest:
    """The box's half: its TPM's keys and its log."""
    statement = AttestationStatement(
        log_id=log_id,
        key=bundle.ak_public,
        endorsement_certificate=bundle.ek_certificate,
        maker=None,
        created_ms=int(now.timestamp() * 1000),
    )
    return CertificateRequest(statement=statement, endorsement_key=bundle.ek_public)


def read_request(file: bytes) -> CertificateRequest:
    """Raises Rejected `attestation_request_malformed`, and as `read_attestation_statement`."""
    match cbor.decode(file, size_max=REQUEST_BYTES_MAX):
        case {"statement": bytes(statement), "endorsement_key": bytes(endorsement_key), **rest} if not rest:
            read = read_attestation_statement(statement)
            return CertificateRequest(statement=read, endorsement_key=endorsement_key)
    raise Rejected("attestation_request_malformed", "expected what `tillstone attest request` writes")


def certified(request: CertificateRequest, makers: Sequence[x509.Certificate] | None) -> AttestationStatement:
    """What the owner signs.

    Args:
        makers: None where the TPM has no maker to be followed to, as a software TPM.
    Raises:
        Rejected: `owner_request_refused`: a key that cannot attest; the codes of `follow_to_maker`.
    """
    statement = request.statement
    try:
        read_attestation_key(statement.key)
    except QuoteRefused as cause:
        raise Rejected("owner_request_refused", f"the key cannot attest: {cause}") from cause
    if makers is None:
        return replace(statement, maker=None)
    root = follow_to_maker(statement.endorsement_certificate, makers, datetime.now(UTC))
    return replace(statement, maker=root_sha256(root))


def seal_certificate(request: CertificateRequest, signed: bytes) -> bytes:
    """The file `attestation.sealed`: the signed statement, to be opened by the TPM of `request` and no other.

    Raises:
        Rejected: `owner_request_refused`: the endorsement certificate is not for the endorsement key.
    """
    key, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
    try:
        challenge = make_challenge(
            ek_public=request.endorsement_key,
            ek_certificate=request.statement.endorsement_certificate,
            ak_name=object_name(request.statement.key),
            secret=key,
        )
    except TpmForeign as cause:
        raise Rejected("owner_request_refused", str(cause)) from cause
    sealed = nonce + AESGCM(key).encrypt(nonce, signed, _AAD)
    return cbor.encode({"credential": challenge.credential, "sealed": sealed, "secret": challenge.secret})


def open_certificate(sealed_file: bytes, *, tcti: str, bundle: TpmBundle, owner: OwnerPublic, log_id: LogId) -> bytes:
    """The signed statement, out of the hands of the TPM behind `tcti`: the box's `attestation.cbor`.

    Raises:
        Rejected: `attestation_sealed_malformed`: no such file, or for another TPM; `attestation_of_another_box`; the
            codes of `SignedStatement.verify`.
        TpmError: the TPM is away, or holds other keys than the bundle says.
    """
    match cbor.decode(sealed_file, size_max=STATEMENT_SIZE_MAX):
        case {"credential": bytes(credential), "secret": bytes(secret), "sealed": bytes(sealed), **rest} if not rest:
            challenge = Challenge(credential=credential, secret=secret)
        case _:
            raise Rejected("attestation_sealed_malformed", "expected what `tillstone owner certify` writes")
    try:
        with closing(TpmContext(tcti)) as tpm:
            key = answer_challenge(tpm, challenge, ek_handle=bundle.ek_handle, ak_handle=bundle.ak_handle)
        opened = AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _AAD)
    except (TpmRefused, InvalidTag, ValueError) as cause:
        raise Rejected("attestation_sealed_malformed", "it was made for another TPM, or it was changed") from cause
    signed = SignedStatement.decode(opened)
    signed.verify(owner, CERTIFICATE)
    read_attestation_statement(signed.statement).require_of(log_id, bundle.ak_public)
    return opened

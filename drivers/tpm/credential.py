"""Credential activation: proof that an attestation key lives in the TPM whose endorsement key encrypted a challenge.

The verifier's half (`make_challenge`) needs no TPM; the TPM's half (`answer_challenge`) opens it only when both keys
are its own. Endorsement keys of the high-range profile (H-3, P-384) only: they are usable without a policy session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import TPM2B_ENCRYPTED_SECRET, TPM2B_ID_OBJECT, TPM2B_PUBLIC, TPMA_OBJECT, TPMT_PUBLIC, TSS2_Exception
from tpm2_pytss.utils import make_credential

from drivers.tpm.context import TpmContext
from drivers.tpm.errors import TpmForeign

# What makes a key an endorsement key: it can only decrypt, inside this TPM. With other attributes, or a key that can
# sign, "it opened the challenge" would prove nothing.
_EK_REQUIRED: Final = (
    TPMA_OBJECT.FIXEDTPM
    | TPMA_OBJECT.FIXEDPARENT
    | TPMA_OBJECT.SENSITIVEDATAORIGIN
    | TPMA_OBJECT.RESTRICTED
    | TPMA_OBJECT.DECRYPT
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """Marshalled TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET."""

    credential: bytes
    secret: bytes


def make_challenge(*, ek_public: bytes, ek_certificate: bytes, ak_name: bytes, secret: bytes) -> Challenge:
    """Encrypt `secret` (at most 32 bytes) for the TPM of `ek_public`, provided that it holds the key named `ak_name`.

    Raises:
        TpmForeign: the certificate is not for this endorsement key, or the key is no endorsement key.
    """
    try:
        public, _ = TPMT_PUBLIC.unmarshal(ek_public)
        certified = x509.load_der_x509_certificate(ek_certificate).public_key()
    except (TSS2_Exception, ValueError) as cause:
        raise TpmForeign("the endorsement key or its certificate cannot be read") from cause
    attributes = int(public.objectAttributes)
    if attributes & int(_EK_REQUIRED) != int(_EK_REQUIRED) or attributes & int(TPMA_OBJECT.SIGN_ENCRYPT):
        raise TpmForeign(f"a key with attributes 0x{attributes:08x} is no endorsement key")
    point = public.unique.ecc
    coordinates = (int.from_bytes(bytes(point.x), "big"), int.from_bytes(bytes(point.y), "big"))
    if not isinstance(certified, ec.EllipticCurvePublicKey):
        raise TpmForeign("the endorsement certificate holds no elliptic-curve key")
    numbers = certified.public_numbers()
    if (numbers.x, numbers.y) != coordinates:
        raise TpmForeign("the endorsement certificate is for another key than the one at the handle")
    credential, encrypted = make_credential(TPM2B_PUBLIC(publicArea=public), secret, ak_name)
    return Challenge(credential=bytes(credential.marshal()), secret=bytes(encrypted.marshal()))


def answer_challenge(tpm: TpmContext, challenge: Challenge, *, ek_handle: int, ak_handle: int) -> bytes:
    """The secret of the challenge. Raises TpmRefused when either key is not this TPM's."""
    credential, _ = TPM2B_ID_OBJECT.unmarshal(challenge.credential)
    secret, _ = TPM2B_ENCRYPTED_SECRET.unmarshal(challenge.secret)
    with tpm.persistent(ak_handle) as ak, tpm.persistent(ek_handle) as ek, tpm.commands() as esapi:
        return bytes(esapi.activate_credential(ak, ek, credential, secret))

"""The signed policy that guards the PIN: PolicyAuthorize(policy key) over PolicyPCR + PolicyNV(version floor).

The sealed blob names only the policy key. What the key approves may change: a new image brings a new signed policy and
opens the same blob. The policy's version must be at or above the TPM's floor counter; raising the floor revokes
every older image for good.

Digests are computed here byte by byte (TPM 2.0 part 3: 23.7 PolicyPCR, 23.9 PolicyNV, 23.16 PolicyAuthorize), because
`tpm2_pytss.policy` needs tss2 4 and Debian 12 has 3.2. Never holds a private key longer than one signature.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_ECC,
    TPM2_EO,
    TPM2B_ECC_PARAMETER,
    TPM2B_OPERAND,
    TPM2B_PUBLIC,
    TPMA_OBJECT,
    TPMS_ECC_PARMS,
    TPMS_ECC_POINT,
    TPMS_SIGNATURE_ECC,
    TPMT_ECC_SCHEME,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
    TPMT_SYM_DEF_OBJECT,
    TPMU_PUBLIC_ID,
    TPMU_PUBLIC_PARMS,
    TPMU_SIGNATURE,
)

from drivers.tpm.context import TpmContext
from drivers.tpm.counter import POLICY_FLOOR_INDEX
from drivers.tpm.errors import TpmPolicyRefused, TpmRefused
from drivers.tpm.quote import selection

PURPOSE: Final = b"tillstone/hsm-pin/1"  # policyRef: an approval for one purpose opens nothing else
_EMPTY_DIGEST: Final = bytes(32)
_CC_POLICY_NV: Final = 0x149
_CC_POLICY_AUTHORIZE: Final = 0x16A
_CC_POLICY_PCR: Final = 0x17F
_OPERAND_BYTES: Final = 8
# Response codes that mean "no" in a policy command, stripped of parameter bits: value, policy failure, signature; and
# the plain one of PolicyNV.
_REFUSALS_FORMAT_ONE: Final = frozenset({0x084, 0x09D, 0x09B})
_REFUSAL_OF_POLICY_NV: Final = 0x126


class SignedPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An approval by the policy key; public, and worthless on a machine in another state.

    Attributes:
        pcrs: SHA-256 PCRs it fixes.
        version: opens while the floor counter is at or below it.
        approved: the policy digest that was signed, 32 bytes.
        signature: ECDSA, DER.
        public_key: SubjectPublicKeyInfo of the policy key, DER.
    """

    pcrs: tuple[int, ...]
    version: int
    approved: bytes
    signature: bytes
    public_key: bytes


def sign_policy(
    key: ec.EllipticCurvePrivateKey, *, values: dict[int, bytes], version: int, floor_name: bytes
) -> SignedPolicy:
    """Approve the machine state `values` (PCR index to value) for floors up to `version`.

    Args:
        floor_name: `counter_name` of the floor counter; the same on every box, since a name does not hold the value.
    """
    pcrs = tuple(sorted(values))
    approved = approved_digest(pcrs=pcrs, values=values, version=version, floor_name=floor_name)
    public = key.public_key()
    return SignedPolicy(
        pcrs=pcrs,
        version=version,
        approved=approved,
        signature=key.sign(approval_message(approved), ec.ECDSA(_hash_of(public))),
        public_key=public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )


def approval_message(approved: bytes) -> bytes:
    """The bytes the policy key signs, for keys that live in a token."""
    return approved + PURPOSE


def approved_digest(*, pcrs: tuple[int, ...], values: dict[int, bytes], version: int, floor_name: bytes) -> bytes:
    """PolicyPCR, then PolicyNV(floor <= version), from the empty digest."""
    pcr_digest = hashlib.sha256(b"".join(values[index] for index in pcrs)).digest()
    digest = _extended(_EMPTY_DIGEST, _CC_POLICY_PCR, bytes(selection(pcrs).marshal()) + pcr_digest)
    offset, operation = (0).to_bytes(2, "big"), int(TPM2_EO.UNSIGNED_LE).to_bytes(2, "big")
    arguments = hashlib.sha256(_operand(version) + offset + operation).digest()
    return _extended(digest, _CC_POLICY_NV, arguments + floor_name)


def authorize_digest(public_key: bytes) -> bytes:
    """The policy digest of a blob that only `public_key` (SPKI, DER) can approve opening."""
    digest = _extended(_EMPTY_DIGEST, _CC_POLICY_AUTHORIZE, _key_name(public_key))
    return hashlib.sha256(digest + PURPOSE).digest()


def satisfy(tpm: TpmContext, session: Any, policy: SignedPolicy) -> None:
    """Bring a policy session to `authorize_digest(policy.public_key)`.

    Raises:
        TpmPolicyRefused: PCRs differ, the version was revoked, or the signature is not the policy key's.
    """
    try:
        with tpm.commands() as esapi:
            esapi.policy_pcr(session, b"", selection(policy.pcrs))
            with tpm.persistent(POLICY_FLOOR_INDEX) as floor:
                operand = TPM2B_OPERAND(_operand(policy.version))
                esapi.policy_nv(floor, floor, session, operand, TPM2_EO.UNSIGNED_LE)
            name, ticket = _approval_ticket(tpm, policy)
            esapi.policy_authorize(session, policy.approved, name, ticket, PURPOSE)
    except TpmRefused as error:
        if is_policy_refusal(error):
            raise TpmPolicyRefused(f"the platform state is not one that the policy key approved: {error}") from error
        raise


def is_policy_refusal(error: TpmRefused) -> bool:
    """Whether a response code means "the policy says no" rather than "the device is broken"."""
    is_format_one = bool(error.code & 0x080)
    return (
        (error.code & 0x0BF in _REFUSALS_FORMAT_ONE) if is_format_one else error.code & 0xFFFF == _REFUSAL_OF_POLICY_NV
    )


def _approval_ticket(tpm: TpmContext, policy: SignedPolicy) -> tuple[Any, Any]:
    public = _elliptic(policy.public_key)
    digest = hashes.Hash(_hash_of(public))
    digest.update(approval_message(policy.approved))
    with tpm.commands() as esapi:
        # The owner hierarchy, not NULL: a ticket of the NULL hierarchy is empty and PolicyAuthorize takes none.
        loaded = esapi.load_external(_external_public(public), hierarchy=ESYS_TR.OWNER)
        with tpm.transient(loaded):
            name = esapi.tr_get_name(loaded)
            return name, esapi.verify_signature(loaded, digest.finalize(), _tpm_signature(policy.signature, public))


def _tpm_signature(der: bytes, public: ec.EllipticCurvePublicKey) -> Any:
    try:
        r, s = decode_dss_signature(der)
        width = (public.curve.key_size + 7) // 8
        parts = [TPM2B_ECC_PARAMETER(number.to_bytes(width, "big")) for number in (r, s)]
    except (ValueError, OverflowError) as error:
        raise TpmPolicyRefused("the policy's signature is no ECDSA signature") from error
    ecdsa = TPMS_SIGNATURE_ECC(hash=_tpm_hash_of(public), signatureR=parts[0], signatureS=parts[1])
    return TPMT_SIGNATURE(sigAlg=TPM2_ALG.ECDSA, signature=TPMU_SIGNATURE(ecdsa=ecdsa))


def _external_public(public: ec.EllipticCurvePublicKey) -> Any:
    width = (public.curve.key_size + 7) // 8
    numbers = public.public_numbers()
    point = TPMS_ECC_POINT(
        x=TPM2B_ECC_PARAMETER(numbers.x.to_bytes(width, "big")), y=TPM2B_ECC_PARAMETER(numbers.y.to_bytes(width, "big"))
    )
    detail = TPMS_ECC_PARMS(
        symmetric=TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL),
        scheme=TPMT_ECC_SCHEME(scheme=TPM2_ALG.NULL),
        curveID=TPM2_ECC.NIST_P384 if public.curve.key_size == 384 else TPM2_ECC.NIST_P256,
    )
    detail.kdf.scheme = TPM2_ALG.NULL
    # nameAlg is also the hash that PolicyAuthorize applies to the approval: it must be the signature's hash.
    return TPM2B_PUBLIC(
        publicArea=TPMT_PUBLIC(
            type=TPM2_ALG.ECC,
            nameAlg=_tpm_hash_of(public),
            objectAttributes=TPMA_OBJECT.SIGN_ENCRYPT | TPMA_OBJECT.USERWITHAUTH,
            parameters=TPMU_PUBLIC_PARMS(eccDetail=detail),
            unique=TPMU_PUBLIC_ID(ecc=point),
        )
    )


def _key_name(public_key: bytes) -> bytes:
    return bytes(_external_public(_elliptic(public_key)).get_name())


def _elliptic(public_key: bytes) -> ec.EllipticCurvePublicKey:
    key = load_der_public_key(public_key)
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in ("secp256r1", "secp384r1"):
        raise TpmPolicyRefused("a policy key is ECDSA on P-256 or P-384")
    return key


def _hash_of(public: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    return hashes.SHA384() if public.curve.key_size == 384 else hashes.SHA256()


def _tpm_hash_of(public: ec.EllipticCurvePublicKey) -> Any:
    return TPM2_ALG.SHA384 if public.curve.key_size == 384 else TPM2_ALG.SHA256


def _operand(version: int) -> bytes:
    return version.to_bytes(_OPERAND_BYTES, "big")


def _extended(digest: bytes, command: int, arguments: bytes) -> bytes:
    return hashlib.sha256(digest + command.to_bytes(4, "big") + arguments).digest()

"""The keys that live in the TPM: storage root, attestation key, endorsement key. Makes them once, checks them always.

- Storage root: owner hierarchy, restricted decryption. Attestation key: ENDORSEMENT hierarchy, restricted signing; in
  any other hierarchy resetCount, restartCount and firmwareVersion come back obfuscated and a quote proves much less.
- Both are persisted (three transient slots only) and noda: with the default a few power cuts lock the TPM out.
- A handle in use by something else is never overwritten.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_ECC,
    TPM2B_ECC_PARAMETER,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_OBJECT,
    TPMS_ECC_PARMS,
    TPMS_ECC_POINT,
    TPMS_SCHEME_HASH,
    TPMT_ECC_SCHEME,
    TPMT_PUBLIC,
    TPMT_SYM_DEF_OBJECT,
    TPMU_ASYM_SCHEME,
    TPMU_PUBLIC_ID,
    TPMU_PUBLIC_PARMS,
    TPMU_SYM_KEY_BITS,
    TPMU_SYM_MODE,
)

from drivers.tpm.context import TpmContext
from drivers.tpm.errors import TpmForeign

# Own handles beside the TCG ones (0x81000001 belongs to the operating system's disk unlocking).
SRK_HANDLE: Final = 0x81000020
AK_HANDLE: Final = 0x81010020
EK_HANDLE: Final = 0x81010016  # P-384, where swtpm_setup --ecc and TCG EK profile H-3 put it
EK_CERTIFICATE_INDEX: Final = 0x01C00016

_COMMON: Final = (
    TPMA_OBJECT.FIXEDTPM
    | TPMA_OBJECT.FIXEDPARENT
    | TPMA_OBJECT.SENSITIVEDATAORIGIN
    | TPMA_OBJECT.USERWITHAUTH
    | TPMA_OBJECT.RESTRICTED
    | TPMA_OBJECT.NODA
)
SRK_ATTRIBUTES: Final = _COMMON | TPMA_OBJECT.DECRYPT
AK_ATTRIBUTES: Final = _COMMON | TPMA_OBJECT.SIGN_ENCRYPT


class Curve(enum.Enum):
    """Curves the product uses; the hash goes with the curve."""

    P256 = "P-256"
    P384 = "P-384"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """A key's public side: `public` is the marshalled TPMT_PUBLIC, `name` binds every attribute of it."""

    handle: int
    public: bytes
    name: bytes


def ensure_srk(tpm: TpmContext, *, curve: Curve = Curve.P256) -> KeyFacts:
    """The storage root key, made and persisted when absent."""
    return _ensure_primary(tpm, SRK_HANDLE, srk_template(curve), ESYS_TR.OWNER)


def ensure_ak(tpm: TpmContext, *, curve: Curve = Curve.P256) -> KeyFacts:
    """The attestation key, made and persisted when absent."""
    return _ensure_primary(tpm, AK_HANDLE, ak_template(curve), ESYS_TR.ENDORSEMENT)


def key_facts(tpm: TpmContext, handle: int) -> KeyFacts:
    """What lies at `handle`. Raises TpmForeign when nothing does."""
    with tpm.persistent(handle) as resource, tpm.commands() as esapi:
        public, name, _ = esapi.read_public(resource)
        return KeyFacts(handle=handle, public=bytes(public.publicArea.marshal()), name=bytes(name))


def read_ek_certificate(tpm: TpmContext) -> bytes:
    """The maker's certificate of the endorsement key, DER, without the padding some makers leave behind it."""
    with tpm.persistent(EK_CERTIFICATE_INDEX) as index, tpm.commands() as esapi:
        public, _ = esapi.nv_read_public(index)
        size = int(public.nvPublic.dataSize)
        chunks = bytearray()
        while len(chunks) < size:
            # A TPM reads at most TPM_PT_NV_BUFFER_MAX bytes at once; 512 is allowed everywhere.
            chunks += bytes(esapi.nv_read(index, min(512, size - len(chunks)), offset=len(chunks), auth_handle=index))
    return _first_der_element(bytes(chunks))


def _first_der_element(encoded: bytes) -> bytes:
    # SEQUENCE with a two-byte length: every X.509 certificate between 256 and 65,535 bytes (X.690 8.1.3).
    if len(encoded) < 4 or encoded[:2] != b"\x30\x82":
        raise TpmForeign("the endorsement certificate's NV index does not hold a DER certificate")
    return encoded[: 4 + int.from_bytes(encoded[2:4], "big")]


def _ensure_primary(tpm: TpmContext, handle: int, template: Any, hierarchy: Any) -> KeyFacts:
    if not tpm.holds(handle):
        with tpm.commands() as esapi:
            made, _, _, _, _ = esapi.create_primary(TPM2B_SENSITIVE_CREATE(), template, hierarchy)
            with tpm.transient(made):
                esapi.tr_close(esapi.evict_control(ESYS_TR.OWNER, made, handle))
    facts = key_facts(tpm, handle)
    _check_same_kind(facts, template)
    return facts


def _check_same_kind(facts: KeyFacts, template: Any) -> None:
    found, _ = TPMT_PUBLIC.unmarshal(facts.public)
    wanted = template.publicArea
    is_same = (
        int(found.type) == int(wanted.type)
        and int(found.nameAlg) == int(wanted.nameAlg)
        and int(found.objectAttributes) == int(wanted.objectAttributes)
        and bytes(found.authPolicy) == b""
        and int(found.parameters.eccDetail.curveID) == int(wanted.parameters.eccDetail.curveID)
    )
    if not is_same:
        raise TpmForeign(f"handle 0x{facts.handle:08x} holds a key with other attributes than ours")


def srk_template(curve: Curve) -> Any:
    """What the storage root key is; with the hierarchy's seed it is the key."""
    # AES-128-CFB: what every TPM has (TCG TPM v2.0 Provisioning Guidance, template H).
    symmetric = TPMT_SYM_DEF_OBJECT(
        algorithm=TPM2_ALG.AES, keyBits=TPMU_SYM_KEY_BITS(aes=128), mode=TPMU_SYM_MODE(aes=TPM2_ALG.CFB)
    )
    return _ecc_template(curve, SRK_ATTRIBUTES, symmetric, TPMT_ECC_SCHEME(scheme=TPM2_ALG.NULL))


def ak_template(curve: Curve) -> Any:
    """What an attestation key is; also for tests that make one in a wrong place."""
    hash_algorithm = TPM2_ALG.SHA256 if curve is Curve.P256 else TPM2_ALG.SHA384
    scheme = TPMT_ECC_SCHEME(
        scheme=TPM2_ALG.ECDSA, details=TPMU_ASYM_SCHEME(ecdsa=TPMS_SCHEME_HASH(hashAlg=hash_algorithm))
    )
    return _ecc_template(curve, AK_ATTRIBUTES, TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL), scheme)


def _ecc_template(curve: Curve, attributes: Any, symmetric: Any, scheme: Any) -> Any:
    detail = TPMS_ECC_PARMS(
        symmetric=symmetric,
        scheme=scheme,
        curveID=TPM2_ECC.NIST_P256 if curve is Curve.P256 else TPM2_ECC.NIST_P384,
    )
    detail.kdf.scheme = TPM2_ALG.NULL
    point = TPMS_ECC_POINT(x=TPM2B_ECC_PARAMETER(b""), y=TPM2B_ECC_PARAMETER(b""))
    return TPM2B_PUBLIC(
        publicArea=TPMT_PUBLIC(
            type=TPM2_ALG.ECC,
            nameAlg=TPM2_ALG.SHA256,
            objectAttributes=attributes,
            parameters=TPMU_PUBLIC_PARMS(eccDetail=detail),
            unique=TPMU_PUBLIC_ID(ecc=point),
        )
    )

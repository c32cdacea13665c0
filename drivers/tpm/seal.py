"""Seal and unseal one short secret. It crosses the bus encrypted and opens only under a signed policy.

- The sealed object is noda and has no password: the policy is the only way in, and there is nothing to guess.
- The session is salted to the storage root key whose name the caller pins, so that a listener on the bus learns nothing
  and an interposer with a key of its own is refused before the secret moves.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_SE,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPM2B_SENSITIVE_DATA,
    TPMA_OBJECT,
    TPMA_SESSION,
    TPMS_KEYEDHASH_PARMS,
    TPMS_SENSITIVE_CREATE,
    TPMT_KEYEDHASH_SCHEME,
    TPMT_PUBLIC,
    TPMT_SYM_DEF,
    TPMU_PUBLIC_PARMS,
    TPMU_SYM_KEY_BITS,
    TPMU_SYM_MODE,
)

from drivers.tpm.context import TpmContext
from drivers.tpm.errors import TpmForeign, TpmPolicyRefused, TpmRefused
from drivers.tpm.objects import KeyFacts, key_facts
from drivers.tpm.policy import SignedPolicy, authorize_digest, is_policy_refusal, satisfy

SECRET_BYTES_MAX: Final = 128  # MAX_SYM_DATA of the TCG profile
_RC_INTEGRITY: Final = 0x09F
# fixedTPM and fixedParent: the blob opens in this TPM under this root only. No userWithAuth: only the policy opens it.
_ATTRIBUTES: Final = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.NODA


class SealedSecret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Marshalled TPM2B_PUBLIC and TPM2B_PRIVATE; ciphertext, openable in one TPM only."""

    public: bytes
    private: bytes


def seal(tpm: TpmContext, secret: bytes, *, srk: KeyFacts, policy_key: bytes) -> SealedSecret:
    """Seal `secret` under `srk` for states that `policy_key` (SPKI, DER) approves."""
    if not 0 < len(secret) <= SECRET_BYTES_MAX:
        raise ValueError(f"a sealed secret has 1 to {SECRET_BYTES_MAX} bytes, got {len(secret)}")
    template = TPM2B_PUBLIC(
        publicArea=TPMT_PUBLIC(
            type=TPM2_ALG.KEYEDHASH,
            nameAlg=TPM2_ALG.SHA256,
            objectAttributes=_ATTRIBUTES,
            authPolicy=authorize_digest(policy_key),
            parameters=TPMU_PUBLIC_PARMS(
                keyedHashDetail=TPMS_KEYEDHASH_PARMS(scheme=TPMT_KEYEDHASH_SCHEME(scheme=TPM2_ALG.NULL))
            ),
        )
    )
    sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(data=TPM2B_SENSITIVE_DATA(secret)))
    with tpm.persistent(srk.handle) as parent, tpm.commands() as esapi:
        session = _start_session(esapi, parent, TPM2_SE.HMAC, TPMA_SESSION.DECRYPT)
        with tpm.transient(session):
            private, public, _, _, _ = esapi.create(parent, sensitive, template, session1=session)
            return SealedSecret(public=bytes(public.marshal()), private=bytes(private.marshal()))


def unseal(
    tpm: TpmContext, sealed: SealedSecret, *, srk_handle: int, srk_name: bytes, policies: tuple[SignedPolicy, ...]
) -> bytes:
    """The secret, if one of `policies` approves the present state of the machine.

    Raises:
        TpmPolicyRefused: none does; the device is well.
        TpmForeign: this is not the TPM that sealed it, or it was cleared since.
    """
    if key_facts(tpm, srk_handle).name != srk_name:
        raise TpmForeign("the storage root key is not the one that sealed the secret")
    refusal = TpmPolicyRefused("no policy was given")
    for policy in policies:
        try:
            return _unseal_under(tpm, sealed, srk_handle, policy)
        except TpmPolicyRefused as error:
            refusal = error
    raise refusal


def _unseal_under(tpm: TpmContext, sealed: SealedSecret, srk_handle: int, policy: SignedPolicy) -> bytes:
    with tpm.persistent(srk_handle) as parent, tpm.commands() as esapi:
        session = _start_session(esapi, parent, TPM2_SE.POLICY, TPMA_SESSION.ENCRYPT)
        with tpm.transient(session):
            satisfy(tpm, session, policy)
            try:
                return _open(tpm, sealed, parent, session)
            except TpmRefused as error:
                if is_policy_refusal(error):
                    raise TpmPolicyRefused("the blob was sealed for another policy key") from error
                if error.code & 0x0BF == _RC_INTEGRITY:
                    raise TpmForeign("the sealed blob is damaged or belongs to another TPM") from error
                raise


def _open(tpm: TpmContext, sealed: SealedSecret, parent: Any, session: Any) -> bytes:
    public, _ = TPM2B_PUBLIC.unmarshal(sealed.public)
    private, _ = TPM2B_PRIVATE.unmarshal(sealed.private)
    with tpm.commands() as esapi, tpm.transient(esapi.load(parent, private, public)) as loaded:
        return bytes(esapi.unseal(loaded, session1=session))


def _start_session(esapi: Any, salt_key: Any, kind: Any, direction: Any) -> Any:
    """A session salted to `salt_key` that encrypts the first parameter in `direction`; flushed by the caller."""
    symmetric = TPMT_SYM_DEF(
        algorithm=TPM2_ALG.AES, keyBits=TPMU_SYM_KEY_BITS(aes=128), mode=TPMU_SYM_MODE(aes=TPM2_ALG.CFB)
    )
    session = esapi.start_auth_session(salt_key, ESYS_TR.NONE, kind, symmetric, TPM2_ALG.SHA256)
    wanted = direction | TPMA_SESSION.CONTINUESESSION
    esapi.trsess_set_attributes(session, wanted, wanted)
    return session

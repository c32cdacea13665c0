"""Provision a TPM: make its keys and counters, prove the attestation key, seal the HSM PIN. Idempotent.

Running it again keeps keys and counters (a counter never goes back) and seals the PIN anew, which is also how the PIN
or the policy key is changed. The PIN and the policy's private key pass through and are kept nowhere.
"""

from __future__ import annotations

import hmac
import secrets
from contextlib import closing

from cryptography.hazmat.primitives.asymmetric import ec

from drivers.tpm.bundle import FORMAT, TpmBundle
from drivers.tpm.context import TpmContext
from drivers.tpm.counter import EPOCH_INDEX, POLICY_FLOOR_INDEX, counter_name, ensure_counter, increment_counter
from drivers.tpm.credential import answer_challenge, make_challenge
from drivers.tpm.errors import TpmForeign
from drivers.tpm.objects import EK_HANDLE, Curve, KeyFacts, ensure_ak, ensure_srk, key_facts, read_ek_certificate
from drivers.tpm.policy import SignedPolicy, sign_policy
from drivers.tpm.quote import read_pcrs
from drivers.tpm.seal import seal, unseal


def provision_tpm(
    tcti: str,
    pin: bytes,
    policy_key: ec.EllipticCurvePrivateKey,
    pcrs: tuple[int, ...],
    *,
    quote_pcrs: tuple[int, ...] | None = None,
    policy_version: int | None = None,
    curve: Curve = Curve.P256,
) -> TpmBundle:
    """Make the TPM behind `tcti` ready and seal `pin` to its present PCR values.

    Args:
        pcrs: SHA-256 PCRs of the policy.
        quote_pcrs: those of quotes; None takes the policy's.
        policy_version: version of the first approval; the floor's present value when None. Releases that share
            one number across boxes give theirs here.
    Raises:
        TpmForeign: a handle is in use by something else, the version is below the floor, or the attestation key failed
            its proof.
    """
    with closing(TpmContext(tcti)) as tpm:
        srk = ensure_srk(tpm, curve=curve)
        ak = ensure_ak(tpm, curve=curve)
        ek = key_facts(tpm, EK_HANDLE)
        ek_certificate = read_ek_certificate(tpm)
        prove_attestation_key(tpm, ek=ek, ek_certificate=ek_certificate, ak=ak)
        # The floor first: on a new TPM it then starts at 1, below every release number.
        floor = ensure_counter(tpm, POLICY_FLOOR_INDEX)
        ensure_counter(tpm, EPOCH_INDEX)
        version = floor if policy_version is None else policy_version
        if version < floor:
            raise TpmForeign(f"policy version {version} is below this TPM's floor {floor}: sign a higher one")
        policy = approve_present_state(tpm, policy_key, pcrs, version=version)
        sealed = seal(tpm, pin, srk=srk, policy_key=policy.public_key)
        opened = unseal(tpm, sealed, srk_handle=srk.handle, srk_name=srk.name, policies=(policy,))
        if not hmac.compare_digest(opened, pin):
            raise TpmForeign("the TPM gave back other bytes than were sealed")
        return TpmBundle(
            format=FORMAT,
            srk_handle=srk.handle, srk_name=srk.name,
            ak_handle=ak.handle, ak_name=ak.name, ak_public=ak.public,
            ek_handle=ek.handle, ek_public=ek.public, ek_certificate=ek_certificate,
            epoch_index=EPOCH_INDEX, floor_index=POLICY_FLOOR_INDEX,
            quote_pcrs=policy.pcrs if quote_pcrs is None else quote_pcrs,
            sealed=sealed,
            policies=(policy,),
        )  # fmt: skip


def approve_present_state(
    tpm: TpmContext, policy_key: ec.EllipticCurvePrivateKey, pcrs: tuple[int, ...], *, version: int
) -> SignedPolicy:
    """Sign the PCR values this machine has now. A release signs expected values instead, with `sign_policy`."""
    values = read_pcrs(tpm, pcrs)
    return sign_policy(policy_key, values=values, version=version, floor_name=counter_name(tpm, POLICY_FLOOR_INDEX))


def revoke_policies_below(tpm: TpmContext, version: int) -> int:
    """Raise the floor to `version`: every approval with a lower one stops working, for good. Returns the floor."""
    floor = ensure_counter(tpm, POLICY_FLOOR_INDEX)
    while floor < version:
        floor = increment_counter(tpm, POLICY_FLOOR_INDEX)
    return floor


def prove_attestation_key(tpm: TpmContext, *, ek: KeyFacts, ek_certificate: bytes, ak: KeyFacts) -> None:
    """Credential activation with a fresh secret: the attestation key lives in the TPM that the certificate names."""
    secret = secrets.token_bytes(32)
    challenge = make_challenge(ek_public=ek.public, ek_certificate=ek_certificate, ak_name=ak.name, secret=secret)
    answer = answer_challenge(tpm, challenge, ek_handle=ek.handle, ak_handle=ak.handle)
    if not hmac.compare_digest(answer, secret):
        raise TpmForeign("the TPM answered the challenge with another secret: its keys are not what they say")

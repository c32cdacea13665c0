"""Make a TPM forget: after this the sealed PIN opens nowhere, under no image, for nobody. There is no way back.

TPM2_Clear gives the owner hierarchy a new seed, so that every blob that was sealed under the old one is noise, and
removes its objects and counters (TCG TPM 2.0 part 3, 24.6). It also ends a disk unlock that is bound to the hierarchy:
the log then opens with the disk's recovery key alone. Where the lockout authorisation is not ours TPM2_Clear is
refused; then the policy floor is raised above every approval, which revokes them, and the keys are evicted.
"""

from __future__ import annotations

from enum import Enum

from tpm2_pytss import ESYS_TR, TPM2B_SENSITIVE_CREATE

from drivers.tpm.bundle import TpmBundle
from drivers.tpm.context import TpmContext
from drivers.tpm.counter import increment_counter, read_counter
from drivers.tpm.errors import TpmForeign, TpmPolicyRefused, TpmRefused
from drivers.tpm.objects import Curve, srk_template
from drivers.tpm.seal import unseal


class Forgotten(Enum):
    """How the TPM forgot; the value is for people."""

    CLEARED = "cleared: the owner hierarchy has a new seed"
    REVOKED = "not cleared (its lockout authorisation is not ours): every approval is revoked, the keys are evicted"


def forget(tpm: TpmContext, bundle: TpmBundle, *, lockout_auth: bytes = b"") -> Forgotten:
    """Destroy what opens the PIN of `bundle`, and prove it; doing it again changes nothing.

    Raises:
        TpmForeign: the proof failed: something that should be gone is still there.
    """
    try:
        with tpm.commands() as esapi:
            esapi.tr_set_auth(ESYS_TR.LOCKOUT, lockout_auth)
            esapi.clear(ESYS_TR.LOCKOUT)
    except TpmRefused:
        _revoke(tpm, bundle)
        _refuse_present(tpm, bundle.srk_handle, bundle.ak_handle)
        return Forgotten.REVOKED
    _refuse_present(tpm, bundle.srk_handle, bundle.ak_handle, bundle.epoch_index, bundle.floor_index)
    _refuse_same_seed(tpm, bundle.srk_name)
    return Forgotten.CLEARED


def _revoke(tpm: TpmContext, bundle: TpmBundle) -> None:
    above = max(policy.version for policy in bundle.policies) + 1
    while read_counter(tpm, bundle.floor_index) < above:
        increment_counter(tpm, bundle.floor_index)
    if tpm.holds(bundle.srk_handle):
        try:
            unseal(tpm, bundle.sealed, srk_handle=bundle.srk_handle, srk_name=bundle.srk_name, policies=bundle.policies)
        except TpmPolicyRefused:
            pass
        else:
            raise TpmForeign("the PIN still opens under a revoked approval")
    for handle in (bundle.srk_handle, bundle.ak_handle):
        if tpm.holds(handle):
            with tpm.persistent(handle) as resource, tpm.commands() as esapi:
                esapi.evict_control(ESYS_TR.OWNER, resource, 0)


def _refuse_present(tpm: TpmContext, *handles: int) -> None:
    left = [f"0x{handle:08x}" for handle in handles if tpm.holds(handle)]
    if left:
        raise TpmForeign(f"still there: {', '.join(left)}")


def _refuse_same_seed(tpm: TpmContext, srk_name: bytes) -> None:
    """A primary key is a function of seed and template: the old one must not come back."""
    for curve in Curve:
        with tpm.commands() as esapi:
            made, public, _, _, _ = esapi.create_primary(TPM2B_SENSITIVE_CREATE(), srk_template(curve), ESYS_TR.OWNER)
            with tpm.transient(made):
                if bytes(public.get_name()) == srk_name:
                    raise TpmForeign("the storage root key of before comes back: the seed is the same")

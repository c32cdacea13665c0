"""The token's two PINs: the user's, sealed in the TPM, and the security officer's, which follows from it.

Owns sealing and opening for the ceremony. Must never write a PIN anywhere: the sealed blob comes first and the token is
initialised with what opens from it, so a ceremony cut short in between finds the same PIN again.

* The officer can set a new user PIN, so a file with his would undo the sealing. His is derived: whoever is shown the
  one by the TPM has the other, nobody else has either.
"""

from __future__ import annotations

import hmac
import secrets
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.model.invariants import ensure
from drivers.tpm.bundle import TpmBundle, decode_bundle, encode_bundle
from drivers.tpm.context import TpmContext
from drivers.tpm.objects import key_facts
from drivers.tpm.policy import SignedPolicy
from drivers.tpm.seal import seal, unseal
from provisioning.box import PCRS, QUOTE_PCRS
from provisioning.tpm import provision_tpm

BUNDLE: Final = "tpm-bundle.json"
POLICY: Final = "pcr-policy.json"
_PIN_BYTES: Final = 16
_OFFICER: Final = b"tillstone/so-pin/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """Both PINs, for as long as one step takes."""

    user: str

    def __repr__(self) -> str:
        return "Pins(redacted)"

    @property
    def officer(self) -> str:
        return hmac.digest(self.user.encode(), _OFFICER, "sha256").hex()[: 2 * _PIN_BYTES]


def draw(tcti: str) -> TpmBundle:
    """Seal a new PIN to what runs now, under an approval whose key is forgotten at once: the owner's comes later."""
    key = ec.generate_private_key(ec.SECP256R1())
    return provision_tpm(tcti, secrets.token_hex(_PIN_BYTES).encode(), key, PCRS, quote_pcrs=QUOTE_PCRS)


def read_bundle(folder: Path) -> TpmBundle:
    """What the box remembers of its TPM."""
    return decode_bundle((folder / BUNDLE).read_bytes())


def open_pins(tcti: str, folder: Path) -> Pins:
    """What the TPM gives for the running software. Raises TpmPolicyRefused, TpmForeign."""
    bundle = read_bundle(folder)
    with closing(TpmContext(tcti)) as tpm:
        return Pins(user=_open(tpm, bundle).decode())


def seal_for(tcti: str, folder: Path, policy: SignedPolicy) -> TpmBundle:
    """The bundle with the PIN sealed for the owner's policy key, opened once before it is believed.

    Raises:
        TpmPolicyRefused: `policy` approves another state than this machine's.
    """
    bundle = read_bundle(folder)
    if bundle.policies == (policy,):
        return bundle
    with closing(TpmContext(tcti)) as tpm:
        pin = _open(tpm, bundle)
        sealed = seal(tpm, pin, srk=key_facts(tpm, bundle.srk_handle), policy_key=policy.public_key)
        following = msgspec.structs.replace(bundle, sealed=sealed, policies=(policy,))
        ensure(hmac.compare_digest(_open(tpm, following), pin), "the TPM gives back what was sealed")
    return following


def encoded_policy(policy: SignedPolicy) -> bytes:
    """The file of the approval."""
    return msgspec.json.encode(policy)


def encoded(bundle: TpmBundle) -> bytes:
    """The file of the bundle."""
    return encode_bundle(bundle)


def _open(tpm: TpmContext, bundle: TpmBundle) -> bytes:
    return unseal(tpm, bundle.sealed, srk_handle=bundle.srk_handle, srk_name=bundle.srk_name, policies=bundle.policies)

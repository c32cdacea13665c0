"""What a provisioned box remembers of its TPM: names, handles and blobs. Holds no secret in clear and no private key.

File form: one JSON object, the fields below by name, byte strings in base64 (RFC 4648 section 4), unknown fields
refused. Losing it loses the sealed PIN (provision again); changing it opens nothing: the TPM checks names and blobs.
"""

from __future__ import annotations

from typing import Final

import msgspec

from drivers.tpm.policy import SignedPolicy
from drivers.tpm.seal import SealedSecret

FORMAT: Final = "tillstone-tpm-bundle/1"
POLICIES_MAX: Final = 8
BUNDLE_BYTES_MAX: Final = 64 * 1024


class TpmBundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of provisioning.

    Attributes:
        format: always `FORMAT`.
        srk_handle: storage root key, persistent; `srk_name` pins it.
        ak_handle: attestation key, persistent; `ak_name` pins it, `ak_public` is its TPMT_PUBLIC.
        ek_handle: endorsement key; `ek_public` is its TPMT_PUBLIC, `ek_certificate` DER from NV.
        epoch_index: NV counter of epochs.
        floor_index: NV counter that revokes policies below it.
        quote_pcrs: SHA-256 PCRs that a quote covers.
        sealed: the PIN.
        policies: approvals tried in turn when unsealing: the running image and, during an update, the next one.
    """

    format: str
    srk_handle: int
    srk_name: bytes
    ak_handle: int
    ak_name: bytes
    ak_public: bytes
    ek_handle: int
    ek_public: bytes
    ek_certificate: bytes
    epoch_index: int
    floor_index: int
    quote_pcrs: tuple[int, ...]
    sealed: SealedSecret
    policies: tuple[SignedPolicy, ...]


def encode_bundle(bundle: TpmBundle) -> bytes:
    """The file's bytes."""
    return msgspec.json.format(msgspec.json.encode(bundle), indent=2) + b"\n"


def decode_bundle(encoded: bytes) -> TpmBundle:
    """Read a bundle file. Raises ValueError (msgspec.ValidationError is one) naming the field that is wrong."""
    if len(encoded) > BUNDLE_BYTES_MAX:
        raise ValueError(f"a TPM bundle has at most {BUNDLE_BYTES_MAX} bytes, got {len(encoded)}")
    bundle = msgspec.json.decode(encoded, type=TpmBundle)
    if bundle.format != FORMAT:
        raise ValueError(f"expected format {FORMAT}, got {bundle.format[:40]!r}")
    if not 1 <= len(bundle.policies) <= POLICIES_MAX:
        raise ValueError(f"expected 1 to {POLICIES_MAX} policies, got {len(bundle.policies)}")
    return bundle


def with_policy(bundle: TpmBundle, policy: SignedPolicy) -> TpmBundle:
    """The bundle with `policy` tried first; the oldest ones beyond the bound are dropped."""
    return msgspec.structs.replace(bundle, policies=(policy, *bundle.policies)[:POLICIES_MAX])

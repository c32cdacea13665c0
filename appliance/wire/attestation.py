"""What the box answers who asks what runs on it, and each day's entry about it. Source: docs/formats/attestation.md."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from appliance.wire.requests import Wire

ATTESTED: Final = "attested"
LOG_BYTES_MAX: Final = 512 * 1024
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Structure = Annotated[bytes, msgspec.Meta(max_length=1_024)]
_Certificate = Annotated[bytes, msgspec.Meta(max_length=64 * 1024)]
_Log = Annotated[bytes, msgspec.Meta(max_length=LOG_BYTES_MAX)]


class PcrValue(Wire, frozen=True, kw_only=True):
    """One PCR of the SHA-256 bank."""

    pcr: Annotated[int, msgspec.Meta(ge=0, le=23)]
    value: Digest


class Attestation(Wire, frozen=True, kw_only=True):
    """A quote, and what is needed to judge it. Nothing in it is true because it stands here.

    Attributes:
        log: the log's id.
        tls: SHA-256 of the certificate (DER) of the terminals' door.
        pcrs: the values that the quote covers.
        image: name, version and profile; empty outside an image.
        nonce: the asker's.
        quote: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        event_log: the firmware's, as it lies in the machine; None where there is none, and `event_log_absent` says why.
        userspace_log: systemd's, likewise.
        certificate: the owner's statement for the attestation key.
        attestation_key: TPMT_PUBLIC.
        endorsement_certificate: DER.
    """

    log: Digest
    tls: Digest
    pcrs: Annotated[tuple[PcrValue, ...], msgspec.Meta(max_length=24)]
    image: Annotated[str, msgspec.Meta(max_length=200)] = ""
    nonce: Digest
    quote: _Structure
    origin: Annotated[str, msgspec.Meta(max_length=200)]
    version: Annotated[str, msgspec.Meta(max_length=100)]
    event_log: _Log | None = None
    signature: _Structure
    certificate: _Certificate | None = None
    userspace_log: _Log | None = None
    attestation_key: _Structure
    event_log_absent: Annotated[str, msgspec.Meta(max_length=200)] = ""
    endorsement_certificate: Annotated[bytes, msgspec.Meta(max_length=4_096)] | None = None


class AttestedEntry(Wire, frozen=True, kw_only=True):
    """kind `attested`: what the TPM said of the box when the day was closed, or why it said nothing.

    Attributes:
        size: entries before this one; the quote's nonce is the root of their tree, so it was not made earlier.
        digest: SHA-256 of the quote.
        attestation: without logs and certificates, which the box hands out beside it.
        missing: the code of the trouble with the TPM.
    """

    day: str
    size: int
    digest: Digest | None = None
    missing: str = ""
    attestation: Attestation | None = None

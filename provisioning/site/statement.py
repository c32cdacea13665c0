"""What the owner signs for one box: its `site.toml`, the files beside it, and which PCR values open its token.

Owns the bytes of the statement and the sealing of files. Must never carry a file in the clear: the stick is lost one
day. A statement names the request that it answers, so it serves one box, and only with the keys it had then.

Source: docs/formats/site.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.crypto import cbor, hpke
from appliance.crypto.hpke import Recipient
from appliance.crypto.owner import STATEMENT_SIZE_MAX
from appliance.model.errors import Rejected
from drivers.tpm.policy import SignedPolicy
from provisioning.site.request import BoxRequest

KIND: Final = "site"
NAME: Final = "site.cbor"
_SEALED: Final = b"tillstone/site-file/v1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatement:
    """The statement.

    Attributes:
        request_sha256: of the `box.request` that it answers.
        site_sha256: of `site.toml`, byte for byte.
        files: what lies in `files/`, sealed to the box's key, by name.
        policy: the approval of the box's PCR values, by the owner's policy key.
        attestation: the owner's word for the attestation key, sealed to the TPM by `provisioning/attest/certify.py`.
    """

    request_sha256: bytes
    site_sha256: bytes
    files: dict[str, bytes]
    policy: SignedPolicy
    attestation: bytes

    def encode(self) -> bytes:
        """The bytes that the owner signs."""
        return cbor.encode(
            {
                "attestation": self.attestation,
                "files": [[name, sealed] for name, sealed in sorted(self.files.items())],
                "policy": msgspec.json.encode(self.policy),
                "request": self.request_sha256,
                "site": self.site_sha256,
                "version": 1,
            }
        )

    def open_files(self, seed: bytes) -> dict[str, bytes]:
        """The files by name, with the box key's seed. Raises Rejected `seal_refused`."""
        return {
            name: hpke.open_sealed(seed, sealed, _purpose(self.request_sha256, name))
            for name, sealed in self.files.items()
        }


def answer(
    request: BoxRequest, site: bytes, files: dict[str, bytes], policy: SignedPolicy, attestation: bytes
) -> SiteStatement:
    """Seal `files` to the box and bind everything to its request."""
    digest = hashlib.sha256(request.encode()).digest()
    recipient = Recipient(request.box_key)
    return SiteStatement(
        request_sha256=digest,
        site_sha256=hashlib.sha256(site).digest(),
        files={name: recipient.seal(content, _purpose(digest, name)) for name, content in files.items()},
        policy=policy,
        attestation=attestation,
    )


def read_statement(encoded: bytes) -> SiteStatement:
    """Raises Rejected `site_malformed` and every `cbor_*` code."""
    match cbor.decode(encoded, size_max=STATEMENT_SIZE_MAX):
        case {
            "version": 1,
            "request": bytes(request),
            "site": bytes(site),
            "policy": bytes(policy),
            "files": list(files),
            "attestation": bytes(attestation),
            **rest,
        } if not rest:
            try:
                read_policy = msgspec.json.decode(policy, type=SignedPolicy)
            except msgspec.MsgspecError as cause:
                raise Rejected("site_malformed", "expected an approval of PCR values") from cause
            named = dict(_file(entry) for entry in files)
            return SiteStatement(
                request_sha256=request, site_sha256=site, files=named, policy=read_policy, attestation=attestation
            )
    raise Rejected("site_malformed", "expected a site statement of version 1")


def _file(entry: cbor.Value) -> tuple[str, bytes]:
    match entry:
        case [str(name), bytes(sealed)] if name and "/" not in name and not name.startswith("."):
            return name, sealed
    raise Rejected("site_malformed", "expected files as [name, sealed]")


def _purpose(request_sha256: bytes, name: str) -> bytes:
    return _SEALED + request_sha256 + name.encode()

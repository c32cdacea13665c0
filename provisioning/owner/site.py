"""`tillstone owner sign-site`, `policy-key`: the owner's answer to a new box's request.

Owns what is checked and shown before the owner signs a shop's settings. Must never sign a site with a fault, and never
writes a secret in the clear: the files beside `site.toml` leave this computer sealed to one box.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.config.load import SettingsInvalid
from appliance.crypto.owner import OwnerKey
from appliance.ledger.attestation import AttestationStatement
from appliance.ledger.genesis import GenesisStatement, LogId
from appliance.ledger.trust import TRUST_BYTES_MAX, Trust, load_trust
from appliance.model.errors import Rejected
from drivers.tpm.policy import sign_policy
from provisioning.attest.certify import CertificateRequest, certified, seal_certificate
from provisioning.attest.maker import read_makers
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, CannotDo, print_json
from provisioning.owner.signing import confirm, make_ready, new_folder, owner_key, read_policy_key, write_new
from provisioning.owner.statements import describe, genesis_request, require_owner, sign
from provisioning.site import statement
from provisioning.site.plan import Site, read_files, read_site
from provisioning.site.request import REQUEST_BYTES_MAX, BoxRequest, read_request
from provisioning.verify.wording import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOrder:
    """A request, and the site that answers it; nothing is signed yet."""

    request: BoxRequest
    site: Site
    site_file: bytes
    files: dict[str, bytes]
    genesis: GenesisStatement
    policy_key: ec.EllipticCurvePrivateKey
    certificate: CertificateRequest
    attestation: AttestationStatement

    def describe(self) -> tuple[str, ...]:
        """What a person compares before he signs."""
        request, network = self.request, self.site.network
        return (
            f"box {request.serial} asks with fingerprint {request.fingerprint}",
            f"  its TPM's certificate: {_issuer(request.ek_certificate)}",
            f"  its token opens to {', '.join(f'PCR {i} {v.hex()}' for i, v in sorted(request.pcrs.items()))}",
            *describe(self.genesis),
            *describe(self.attestation),
            f"shop {self.site.settings.shop.name}, zone {self.site.settings.shop.timezone}",
            f"  network: {network.address or 'DHCP'}; witnesses: {len(self.site.settings.witnesses.named)}",
            f"  sealed to this box: {', '.join(sorted(self.files)) or 'no files'}",
        )

    def sign(self, owner: OwnerKey, trust: Trust) -> dict[str, bytes]:
        """The files of the stick, by name; blocks for about 2 s."""
        request = self.request
        policy = sign_policy(self.policy_key, values=request.pcrs, version=request.floor, floor_name=request.floor_name)
        word = seal_certificate(self.certificate, sign(owner, self.attestation).file)
        said = statement.answer(request, self.site_file, self.files, policy, word)
        genesis = sign(owner, self.genesis)
        return {
            "site.toml": self.site_file,
            statement.NAME: owner.sign(statement.KIND, said.encode()).encode(),
            "genesis.cbor": genesis.file,
            "trust.json": trust.learn(genesis.evidence).encode(),
        }


def read_order(path: Path, request: bytes, trust: Trust, policy_key: Path, maker: Path | None) -> SiteOrder:
    """Everything that is signed, checked.

    Args:
        maker: certificates of the TPM's maker, PEM; None where nobody knows him.
    Raises:
        CannotDo: `site.toml` or its files have faults: all of them, each with its place.
        Rejected: the codes of `read_request` and `certified`; `owner_request_refused`: such a log has begun already.
    """
    asked = read_request(request)
    files_folder = path.parent / "files"
    try:
        files = read_files(files_folder)
        site = read_site(path, files=files_folder)
        content = path.read_bytes()
    except SettingsInvalid as invalid:
        listed = "".join(f"\n  {fault.place}: {fault.reason}" for fault in invalid.faults)
        raise CannotDo(f"{path} cannot be signed:{listed}", "put all of that right") from invalid
    genesis = GenesisStatement(
        origin=site.shop(asked.serial).origin,
        created_ms=time.time_ns() // 1_000_000,
        keys=asked.keys,
        note_key=asked.note_key,
    )
    genesis_request(genesis.encode(), trust)
    certificate = _certificate(asked, genesis)
    makers = None if maker is None else read_makers(read_named(maker, REQUEST_BYTES_MAX))
    return SiteOrder(
        request=asked,
        site=site,
        site_file=content,
        files=files,
        genesis=genesis,
        policy_key=read_policy_key(policy_key),
        certificate=certificate,
        attestation=certified(certificate, makers),
    )


def _certificate(asked: BoxRequest, genesis: GenesisStatement) -> CertificateRequest:
    """What the box asks for its attestation key, under the log that it is about to get."""
    log_id = LogId(hashlib.sha256(genesis.encode()).digest())
    word = AttestationStatement(
        log_id=log_id,
        key=asked.ak_public,
        endorsement_certificate=asked.ek_certificate,
        maker=None,
        created_ms=genesis.created_ms,
    )
    return CertificateRequest(statement=word, endorsement_key=asked.ek_public)


def run_policy_key(arguments: argparse.Namespace) -> int:
    """A P-256 key that approves PCR values, in a new file of mode 0600."""
    path: Path = arguments.file
    make_ready()
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as cause:
        raise CannotDo(f"{path} cannot be made: {cause.strerror}", "name another file") from cause
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    print(f"{path}: keep it with the owner's shares; who has it decides what boxes open their tokens for.")
    return DONE


def run_sign_site(arguments: argparse.Namespace) -> int:
    """Sign genesis and site, and write the folder that goes onto the stick."""
    make_ready()
    trust = load_trust(read_named(arguments.trust, TRUST_BYTES_MAX))
    request = read_named(arguments.request, REQUEST_BYTES_MAX)
    order = read_order(arguments.site, request, trust, arguments.policy_key, arguments.maker)
    shown = tuple(printable(line) for line in order.describe())
    confirm(shown, arguments)
    owner = owner_key(arguments)
    require_owner(owner.public, trust)
    files = order.sign(owner, trust)
    folder = new_folder(arguments.output)
    for name, content in files.items():
        write_new(folder / name, content)
    if arguments.json:
        print_json({"signed": [str(folder / name) for name in files], "says": list(shown)})
    else:
        print(f"Signed. Copy the files of {folder} onto the stick and start the box with it. Erase the shares' files.")
    return DONE


def _issuer(certificate: bytes) -> str:
    try:
        read = x509.load_der_x509_certificate(certificate)
    except ValueError as cause:
        raise Rejected("box_request_malformed", "its TPM's certificate cannot be read") from cause
    return f"number {read.serial_number:x}, by {read.issuer.rfc4514_string() or 'nobody named'}"

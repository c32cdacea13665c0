"""A box whose owner's key lies beside it, as in a sandbox: asked, signed, sealed and opened in one go.

The way is the one of an owner elsewhere, so that a TPM that does not hold both keys is found out here too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from appliance.config.load import load
from appliance.crypto.owner import OwnerKey, SignedStatement
from appliance.ledger.attestation import read_attestation_statement
from appliance.ledger.genesis import LogId, read_body
from appliance.ledger.trust import load_trust
from appliance.model.errors import Rejected
from provisioning.attest.certify import certified, make_request, open_certificate, seal_certificate
from provisioning.attest.maker import read_makers
from provisioning.owner.statements import sign
from provisioning.swtpm import powered_tpm
from provisioning.terminal.durable import write_durably

if TYPE_CHECKING:
    from cryptography import x509

    from provisioning.box import Box


def is_certified(box: Box) -> bool:
    """Whether the file there is about this log and this TPM; after a succession it may be about the ones before."""
    try:
        statement = read_attestation_statement(SignedStatement.decode(box.attestation.read_bytes()).statement)
        statement.require_of(log_of(box), box.bundle.ak_public)
    except (FileNotFoundError, Rejected):
        return False
    return True


def certify_own_box(box: Box, owner: OwnerKey, tcti: str) -> None:
    """Write `attestation.cbor`. Raises Rejected as `certified` and `open_certificate`, TpmError likewise."""
    bundle, log_id = box.bundle, log_of(box)
    request = make_request(bundle, log_id, datetime.now(UTC))
    statement = certified(request, _makers(box))
    sealed = seal_certificate(request, sign(owner, statement).file)
    opened = open_certificate(sealed, tcti=tcti, bundle=bundle, owner=owner.public, log_id=log_id)
    write_durably(box.attestation, opened)


def install_certificate(box: Box, sealed: bytes) -> None:
    """Write `attestation.cbor` from what the owner gave; the box is stopped.

    Raises:
        Rejected, TpmError: as `open_certificate`.
        SwtpmError, SettingsInvalid: the TPM cannot be switched on, or nothing says where it is.
    """
    owner = load_trust(box.trust.read_bytes()).owner
    tpm = None if box.tpm.is_dir() else load(box.settings).tpm
    with powered_tpm(box.tpm, None if tpm is None else tpm.tcti) as tcti:
        opened = open_certificate(sealed, tcti=tcti, bundle=box.bundle, owner=owner, log_id=log_of(box))
    write_durably(box.attestation, opened)


def log_of(box: Box) -> LogId:
    """The log that the box writes."""
    return read_body((box.folder / "genesis.cbor").read_bytes()).log_id


def _makers(box: Box) -> tuple[x509.Certificate, ...] | None:
    """Who made a software TPM of this box is known; of any other TPM nothing is."""
    found = sorted((box.tpm / "authority").glob("*cert*.pem"))
    return tuple(each for path in found for each in read_makers(path.read_bytes())) or None

"""The owner's word for an attestation key reaches the one TPM that it is about, and no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.crypto.owner import OwnerKey, SignedStatement
from appliance.ledger.attestation import read_attestation_statement
from appliance.ledger.genesis import LogId
from appliance.ledger.trust import load_trust
from appliance.model.errors import Rejected
from drivers.tpm.bundle import TpmBundle
from provisioning.attest.certify import (
    CertificateRequest,
    certified,
    make_request,
    open_certificate,
    read_request,
    seal_certificate,
)
from provisioning.attest.maker import follow_to_maker, read_makers, root_sha256
from provisioning.box import Box, make_box
from provisioning.cli import main
from provisioning.owner.statements import of_known_log, sign
from tests.fakes.attested import trust
from tests.fakes.sealer import SoftwareAttestationKey
from tests.integration.box import require_devices
from tests.swtpm import ProvisionedTpm, make_template, plugged_tpm
from tests.unit.ledger.shop import genesis, owner


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def tpm(template: Path, tmp_path: Path) -> Iterator[ProvisionedTpm]:
    with plugged_tpm(template, tmp_path / "tpm") as plugged:
        yield ProvisionedTpm(plugged, ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def other_tpm(tmp_path: Path) -> Iterator[ProvisionedTpm]:
    with plugged_tpm(make_template(tmp_path / "another"), tmp_path / "stranger") as plugged:
        yield ProvisionedTpm(plugged, ec.generate_private_key(ec.SECP256R1()))


def asked(bundle: TpmBundle) -> CertificateRequest:
    return read_request(make_request(bundle, genesis().log_id, datetime.now(UTC)).encode())


def makers_of(template: Path) -> tuple[x509.Certificate, ...]:
    found = sorted((template / "authority").glob("*cert*.pem"))
    return tuple(each for path in found for each in read_makers(path.read_bytes()))


def sealed(request: CertificateRequest) -> bytes:
    return seal_certificate(request, sign(owner(), certified(request, None)).file)


def opened(file: bytes, tpm: ProvisionedTpm, *, bundle: TpmBundle | None = None, log_id: LogId | None = None) -> bytes:
    return open_certificate(
        file,
        tcti=tpm.tcti,
        bundle=tpm.bundle if bundle is None else bundle,
        owner=owner().public,
        log_id=genesis().log_id if log_id is None else log_id,
    )


def test_the_tpm_that_asked_opens_what_the_owner_signed(tpm: ProvisionedTpm, template: Path) -> None:
    request = asked(tpm.bundle)
    statement = certified(request, makers_of(template))
    kept = opened(seal_certificate(request, sign(owner(), statement).file), tpm)
    read = read_attestation_statement(SignedStatement.decode(kept).statement)
    assert (read.key, read.log_id, read.endorsement_certificate) == (
        tpm.bundle.ak_public,
        genesis().log_id,
        tpm.bundle.ek_certificate,
    )
    assert read.maker in [root_sha256(each) for each in makers_of(template)]


def test_another_tpm_another_key_another_log_open_nothing(tpm: ProvisionedTpm, other_tpm: ProvisionedTpm) -> None:
    file = sealed(asked(tpm.bundle))
    assert str(owner().public.fingerprint).encode() not in file
    attempts: list[tuple[bytes, ProvisionedTpm]] = [
        (file, other_tpm),
        (file[:-1] + bytes([file[-1] ^ 1]), tpm),
        (file[:-1], tpm),
        # The endorsement key is this TPM's, and the key that was certified is not in it.
        (sealed(foreign(tpm.bundle)), tpm),
    ]
    for tried, by in attempts:
        with pytest.raises(Rejected) as refused:
            opened(tried, by)
        assert refused.value.code in ("attestation_sealed_malformed", "cbor_malformed")
    with pytest.raises(Rejected) as refused:
        opened(file, tpm, log_id=LogId(bytes(32)))
    assert refused.value.code == "attestation_of_another_box"


def foreign(bundle: TpmBundle) -> CertificateRequest:
    request = asked(bundle)
    return replace(request, statement=replace(request.statement, key=SoftwareAttestationKey().public))


def test_owner_refuses_a_key_or_log_or_certificate_that_does_not_fit(
    tpm: ProvisionedTpm, other_tpm: ProvisionedTpm
) -> None:
    request = asked(tpm.bundle)
    storage = replace(request.statement, key=SoftwareAttestationKey(attributes=0x00030472).public)
    with pytest.raises(Rejected) as refused:
        certified(replace(request, statement=storage), None)
    assert refused.value.code == "owner_request_refused"
    unknown = replace(request.statement, log_id=LogId(bytes(32)))
    with pytest.raises(Rejected) as refused:
        of_known_log(replace(request, statement=unknown), trust())
    assert refused.value.code == "owner_request_refused"
    others = replace(request.statement, endorsement_certificate=other_tpm.bundle.ek_certificate)
    for wrong in (
        replace(request, statement=others),
        replace(request, endorsement_key=tpm.bundle.ak_public),
        replace(request, endorsement_key=b"no key"),
    ):
        with pytest.raises(Rejected) as refused:
            seal_certificate(wrong, b"signed")
        assert refused.value.code == "owner_request_refused"


def test_maker_is_followed_by_known_certificates_that_are_valid_now(template: Path, tpm: ProvisionedTpm) -> None:
    endorsement, makers, now = tpm.bundle.ek_certificate, makers_of(template), datetime.now(UTC)
    root = follow_to_maker(endorsement, makers, now)
    assert root.issuer == root.subject
    without_root = [each for each in makers if each != root]
    leaf = x509.load_der_x509_certificate(endorsement)
    for known in (without_root, (root,), (), (leaf, root)):
        with pytest.raises(Rejected) as refused:
            follow_to_maker(endorsement, known, now)
        assert refused.value.code == "maker_unknown"
    with pytest.raises(Rejected):
        follow_to_maker(endorsement, makers, now - timedelta(days=1))
    with pytest.raises(Rejected) as refused:
        follow_to_maker(b"no certificate", makers, now)
    assert refused.value.code == "endorsement_certificate_malformed"
    with pytest.raises(Rejected):
        read_makers(b"no PEM")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Box:
    require_devices()
    return make_box(tmp_path_factory.mktemp("made") / "box")


def test_ceremony_by_hand_ends_like_the_one_of_the_sandbox(
    made: Box, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made.attestation.read_bytes()
    made.attestation.unlink()
    here = ["--dir", str(made.folder)]
    assert main(["attest", "request", *here, "--json"]) == 0
    request = json.loads(capsys.readouterr().out)
    assert load_trust(made.trust.read_bytes()).logs.keys() == {
        read_request(Path(request["request"]).read_bytes()).statement.log_id
    }
    sign_it = ["owner", "certify", request["request"], "--trust", str(made.trust), "--yes", "--json"]
    sign_it += ["--owner-key", str(made.folder / "owner" / "owner-key"), "-o", str(tmp_path / "signed")]
    maker = tmp_path / "maker.pem"
    maker.write_bytes(b"".join(path.read_bytes() for path in (made.tpm / "authority").glob("*cert*.pem")))
    assert main([*sign_it, "--maker", str(maker)]) == 0
    capsys.readouterr()
    assert main(["attest", "install", str(tmp_path / "signed" / "attestation.sealed"), *here]) == 0
    statements = [
        read_attestation_statement(SignedStatement.decode(each).statement)
        for each in (first, made.attestation.read_bytes())
    ]
    assert replace(statements[0], created_ms=0) == replace(statements[1], created_ms=0)
    (tmp_path / "other").write_bytes(b"\xa0")
    assert main(["attest", "install", str(tmp_path / "other"), *here]) == 2
    kept = made.attestation.read_bytes()
    make_box(made.folder)
    assert made.attestation.read_bytes() == kept, "what is certified already stays"


def test_box_of_another_log_is_certified_anew(made: Box) -> None:
    own = OwnerKey.load(made.folder / "owner" / "owner-key", None)
    request = make_request(made.bundle, LogId(bytes(32)), datetime.now(UTC))
    made.attestation.write_bytes(sign(own, request.statement).file)
    assert make_box(made.folder).attestation.read_bytes() != sign(own, request.statement).file
    statement = read_attestation_statement(SignedStatement.decode(made.attestation.read_bytes()).statement)
    assert {statement.log_id} == load_trust(made.trust.read_bytes()).logs.keys()

"""Owns the promises of what an image is trusted by: keys are kept, the bill of materials tells what is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from appliance.model.errors import Rejected
from image import keys
from image.definition import DefinitionInvalid
from image.disk import _measured
from image.manifest import privileged_files
from image.sbom import packages_left


@pytest.fixture(autouse=True)
def small_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_BITS", 1024)


def test_keys_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    made = keys.ensure_keys(tmp_path / "keys")
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    assert keys.ensure_keys(tmp_path / "keys") == made
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == before
    assert {path.stat().st_mode & 0o777 for path in made.folder.iterdir()} == {0o600}


def test_a_key_that_is_there_is_certified_and_never_replaced(tmp_path: Path) -> None:
    made = keys.ensure_keys(tmp_path / "keys")
    key = made.private("db").read_bytes()
    made.certificate("db").unlink()
    again = keys.ensure_keys(tmp_path / "keys")
    certificate = x509.load_pem_x509_certificate(again.certificate("db").read_bytes())
    private = serialization.load_pem_private_key(key, None)
    assert again.private("db").read_bytes() == key
    assert certificate.public_key() == private.public_key()


def test_pcr_values_are_told_by_phase() -> None:
    said = "".join(f"11:sha256={digit * 64}\n" for digit in "abcd")
    assert list(_measured(said).values()) == [digit * 64 for digit in "abcd"]
    assert list(_measured(said))[-1].endswith(":ready")


def test_a_phase_without_a_value_is_no_measurement() -> None:
    with pytest.raises((ValueError, DefinitionInvalid)):
        _measured("11:sha256=" + "a" * 64)


def test_a_package_counts_while_one_of_its_programs_is_left(tmp_path: Path) -> None:
    base, root = tmp_path / "base", tmp_path / "root"
    info = base / "tree/var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "kept:amd64.list").write_text("/.\n/bin\n/bin/kept\n")
    (info / "gone.list").write_text("/usr/bin/gone\n/usr/share/doc/gone/copyright\n")
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/share/doc/gone").mkdir(parents=True)
    (root / "usr/bin/kept").write_text("1234")
    (root / "usr/share/doc/gone/copyright").write_text("long text")
    assert packages_left(base, root) == {"kept": 4}


def test_a_setuid_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "su").touch()
    (tmp_path / "ls").touch()
    (tmp_path / "su").chmod(0o4755)
    assert privileged_files(tmp_path) == ["su"]


def test_the_release_key_has_two_halves_that_a_verifier_can_pin(tmp_path: Path) -> None:
    made = keys.ensure_keys(tmp_path / "keys")
    pinned = keys.read_release_public(made.release_public.read_bytes())
    ids = (pinned.classical.key_id, pinned.post_quantum.key_id)
    assert ids == tuple(key.key_id for key in made.release_keys())


def test_half_a_release_key_is_refused(tmp_path: Path) -> None:
    made = keys.ensure_keys(tmp_path / "keys")
    whole = made.release_public.read_text()
    half = whole[: whole.index("-----BEGIN", 1)]
    for octets in (half.encode(), b"", b"-----END PUBLIC KEY-----\n"):
        with pytest.raises(Rejected):
            keys.read_release_public(octets)

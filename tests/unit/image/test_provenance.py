"""Owns the promises of provenance: both release keys sign it, it names every file, and nothing else passes for it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.crypto import cose
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.crypto.jwk import to_pem
from appliance.crypto.signing_key import SigningKey, generate
from appliance.model.errors import Rejected
from image.dsse import pre_authentication_encoding, seal
from image.materials import Resource, package_hashes
from image.provenance import NAME, SUBJECTS, verify_provenance, write_provenance

CLASSICAL, POST_QUANTUM = generate(cose.ED25519), generate(cose.ML_DSA_87)
KEYS = (CLASSICAL, POST_QUANTUM)


def pinned(classical: SigningKey, post_quantum: SigningKey) -> HybridPublic:
    return HybridPublic(
        classical=PinnedKey(algorithm=classical.algorithm, public_key=classical.public_key),
        post_quantum=PinnedKey(algorithm=post_quantum.algorithm, public_key=post_quantum.public_key),
    )


RELEASE = pinned(*KEYS)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Files of an image with their provenance."""
    for name in SUBJECTS:
        (tmp_path / name).write_text(f"content of {name}")
    lock = Resource(name="packages.lock", digest={"sha256": "00" * 32})
    tool = Resource(uri="pkg:deb/debian/erofs-utils@1.8.6-1?arch=amd64&distro=debian-13")
    write_provenance(tmp_path, image=tmp_path, profile="release", made_from=[lock], made_with=[tool], keys=KEYS)
    return tmp_path


def envelope(image: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((image / NAME).read_text())
    return content


def statement(image: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(base64.b64decode(envelope(image)["payload"], validate=True))
    return content


def refusal(image: Path, release: HybridPublic = RELEASE) -> str:
    with pytest.raises(Rejected) as refused:
        verify_provenance(image, release)
    return refused.value.code


def test_what_is_signed_is_what_dsse_says() -> None:
    # The example of DSSE's protocol.md.
    encoded = pre_authentication_encoding(b"hello world", "http://example.com/HelloWorld")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_the_image_as_it_was_built_is_believed(image: Path) -> None:
    made = verify_provenance(image, RELEASE).predicate.build_definition
    assert made.external_parameters.profile == "release"
    assert [each.name for each in made.resolved_dependencies] == ["packages.lock"]


def test_the_statement_has_the_form_that_in_toto_and_slsa_give_it(image: Path) -> None:
    said = statement(image)
    assert set(said) == {"_type", "subject", "predicateType", "predicate"}
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert [set(subject) for subject in said["subject"]] == [{"name", "digest"}] * len(SUBJECTS)
    build = said["predicate"]["buildDefinition"]
    assert set(build) == {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    run = said["predicate"]["runDetails"]
    assert set(run["builder"]) == {"id", "builderDependencies"}
    assert run["metadata"]["finishedOn"].endswith("Z")


def test_openssl_verifies_the_classical_half_over_bytes_put_together_here(image: Path, tmp_path: Path) -> None:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("not installed: openssl")
    read = envelope(image)
    payload = base64.b64decode(read["payload"])
    (signature,) = (each["sig"] for each in read["signatures"] if each["keyid"] == CLASSICAL.key_id.hex())
    signed = f"DSSEv1 {len(read['payloadType'])} {read['payloadType']} {len(payload)} ".encode() + payload
    for name, content in (("signed", signed), ("sig", base64.b64decode(signature))):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "key.pem").write_text(to_pem(CLASSICAL.public_key))
    command = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "signed"]
    done = subprocess.run([*command, "-sigfile", "sig"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_changed_or_missing_file_is_named(image: Path, name: str) -> None:
    (image / name).write_text("other")
    assert refusal(image) == "subject_wrong"
    (image / name).unlink()
    assert refusal(image) == "subject_missing"


@pytest.mark.parametrize("kept", [0, 1], ids=["classical_alone", "post_quantum_alone"])
def test_one_signature_is_not_enough(image: Path, kept: int) -> None:
    content = envelope(image)
    content["signatures"] = [content["signatures"][kept]]
    (image / NAME).write_text(json.dumps(content))
    assert refusal(image) == ("post_quantum_signature_missing", "classical_signature_missing")[kept]


def test_another_release_key_is_not_believed(image: Path) -> None:
    other = pinned(generate(cose.ED25519), POST_QUANTUM)
    assert refusal(image, other) == "classical_signature_missing"


def test_a_changed_payload_is_not_believed(image: Path) -> None:
    content = envelope(image)
    changed = statement(image) | {"subject": []}
    content["payload"] = base64.b64encode(json.dumps(changed).encode()).decode()
    (image / NAME).write_text(json.dumps(content))
    assert refusal(image) == "classical_signature_wrong"


def _without_subject(said: dict[str, Any]) -> None:
    said["subject"] = said["subject"][1:]


def _of_something_else(said: dict[str, Any]) -> None:
    said["predicateType"] = "https://spdx.dev/Document"


def _of_another_build(said: dict[str, Any]) -> None:
    said["predicate"]["buildDefinition"]["buildType"] = "urn:tillstone:image-build:2"


def _without_predicate(said: dict[str, Any]) -> None:
    del said["predicate"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_without_subject, "subject_missing"),
        (_of_something_else, "provenance_malformed"),
        (_of_another_build, "provenance_malformed"),
        (_without_predicate, "provenance_malformed"),
    ],
)
def test_a_signed_statement_that_says_something_else_is_refused(
    image: Path, change: Callable[[dict[str, Any]], None], code: str
) -> None:
    said = statement(image)
    change(said)
    (image / NAME).write_bytes(seal(json.dumps(said).encode(), KEYS))
    assert refusal(image) == code


@pytest.mark.parametrize(
    "octets",
    [b"", b"{}", b"\xff", b'{"payloadType":"text/plain","payload":"","signatures":[]}', b" " * (4 * 2**20 + 1)],
)
def test_what_is_no_envelope_is_refused(image: Path, octets: bytes) -> None:
    (image / NAME).write_bytes(octets)
    assert refusal(image) == "dsse_malformed"


def test_an_image_without_provenance_is_refused(image: Path) -> None:
    (image / NAME).unlink()
    assert refusal(image) == "provenance_missing"


def test_hashes_of_packages_come_from_the_mirrors_lists() -> None:
    shown = (
        "Package: base-files\nVersion: 13.8\nDescription: two\n lines: SHA256: no\nSHA256: aa11\n\n"
        "Package: bash\nSHA512: cc\nSHA256: bb22\nVersion: 5.2\n\n"
    )
    assert package_hashes(shown) == {"base-files": "aa11", "bash": "bb22"}

"""One signature, one pinned key: published vectors, and keys that do not fit."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.crypto import cose, signature, signing_key
from appliance.crypto.signing_key import TerminalKey
from appliance.model.errors import Rejected
from tests.unit.crypto import vectors


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        (cose.ESP256, "wycheproof_ecdsa_secp256r1_sha256_p1363_test.json.gz"),
        (cose.ESP384, "wycheproof_ecdsa_secp384r1_sha384_p1363_test.json.gz"),
        (cose.ED25519, "wycheproof_ed25519_test.json.gz"),
        (cose.ML_DSA_87, "wycheproof_mldsa_87_verify_test.json.gz"),
    ],
)
def test_published_signatures_are_judged_as_published(algorithm: int, name: str) -> None:
    judged = 0
    for group, test in vectors.cases(name):
        der = group.get("publicKeyDer") or group["publicKey"].get("publicKeyDer")
        if not isinstance(der, str) or test.get("ctx") or "msg" not in test:
            continue  # a key of the wrong size has no DER; contexts and prehashed input are not used here
        message, signed = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
        try:
            seen = signature.verify(algorithm, bytes.fromhex(der), message, signed)
        except Rejected:
            seen = False
        assert seen is (test["result"] == "valid"), (test["tcId"], test["comment"])
        judged += 1
    assert judged > 50


def test_published_seeds_give_the_published_keys_and_signatures() -> None:
    checked = 0
    for group, test in vectors.cases("wycheproof_mldsa_87_sign_seed_test.json.gz"):
        seed = bytes.fromhex(group["privateSeed"])
        if len(seed) != 32 or test["result"] != "valid" or test.get("ctx") or "msg" not in test:
            continue
        key = signing_key.ml_dsa_87_from_seed(seed)
        assert key.public_key.endswith(bytes.fromhex(group["publicKey"]))
        assert signature.verify(cose.ML_DSA_87, key.public_key, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
        checked += 1
    assert checked > 10


@pytest.mark.parametrize(
    "algorithm",
    [cose.ESP256, cose.ES256, cose.ESP384, cose.ES384, cose.ED25519, cose.EDDSA, cose.ML_DSA_65, cose.ML_DSA_87],
)
def test_what_a_key_signs_verifies_by_that_key_alone(algorithm: int) -> None:
    key, other = signing_key.generate(algorithm), signing_key.generate(algorithm)
    signed = key.sign(b"sale")
    assert len(signed) == signature.algorithm(algorithm).signature_size
    assert signature.verify(algorithm, key.public_key, b"sale", signed)
    assert not signature.verify(algorithm, key.public_key, b"sold", signed)
    assert not signature.verify(algorithm, other.public_key, b"sale", signed)
    assert not signature.verify(algorithm, key.public_key, b"sale", signed + b"\x00")
    assert not signature.verify(algorithm, key.public_key, b"sale", signed[:-1])
    reloaded = signing_key.from_pem(algorithm, key.to_pem(b"passphrase"), b"passphrase")
    assert reloaded.key_id == key.key_id == signature.key_id(key.public_key)


def test_an_algorithm_is_refused_for_another_type_of_key() -> None:
    key = signing_key.generate(cose.ESP256)
    for algorithm in (cose.ESP384, cose.ED25519, cose.ML_DSA_87):
        with pytest.raises(Rejected) as refusal:
            signature.verify(algorithm, key.public_key, b"", b"")
        assert refusal.value.code == "algorithm_key_mismatch"
    with pytest.raises(Rejected) as refusal:
        signature.verify(-257, key.public_key, b"", b"")
    assert refusal.value.code == "algorithm_unsupported"


def test_a_key_has_one_encoding() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    with pytest.raises(Rejected) as refusal:
        signature.key_type(compressed)
    assert refusal.value.code == "public_key_not_canonical"
    with pytest.raises(Rejected) as refusal:
        signature.key_type(b"not a key")
    assert refusal.value.code == "public_key_malformed"


def test_keys_off_the_approved_list_are_refused() -> None:
    key = ec.generate_private_key(ec.SECP256K1()).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(Rejected) as refusal:
        signature.key_type(der)
    assert refusal.value.code == "public_key_unsupported"


def test_a_terminal_key_survives_its_file() -> None:
    key = TerminalKey.generate()
    again = TerminalKey.load(key.to_pem())
    assert again.key_id == key.key_id
    assert signature.verify(cose.ES256, key.public_key, b"sale", again.sign(b"sale"))
    with pytest.raises(Rejected) as refusal:
        TerminalKey.load(signing_key.generate(cose.ESP384).to_pem())
    assert refusal.value.code == "algorithm_key_mismatch"
    assert "_private_key" not in repr(signing_key.generate(cose.ESP256))

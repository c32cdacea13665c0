"""Owner statements and hybrid pairs: both keys, this kind, these bytes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.crypto import cbor, cose, hybrid, owner, signing_key
from appliance.crypto.owner import OwnerKey, OwnerPublic, OwnerSignature
from appliance.model.errors import Bug, Rejected


@pytest.fixture(scope="module")
def key() -> OwnerKey:
    return OwnerKey.generate()


@pytest.fixture(scope="module")
def signed(key: OwnerKey) -> OwnerSignature:
    return key.sign_statement("genesis", b"log 1")


def refusal_of(public: OwnerPublic, kind: str, statement: bytes, signed: OwnerSignature) -> str:
    with pytest.raises(Rejected) as refusal:
        owner.verify_statement(public, kind, statement, signed)
    return refusal.value.code


def test_a_statement_verifies_from_bytes_alone(key: OwnerKey, signed: OwnerSignature) -> None:
    public, again = OwnerPublic.decode(key.public.encode()), OwnerSignature.decode(signed.encode())
    owner.verify_statement(public, "genesis", b"log 1", again)
    assert len(public.fingerprint) == 64


def test_a_statement_holds_for_its_kind_and_bytes_only(key: OwnerKey, signed: OwnerSignature) -> None:
    assert refusal_of(key.public, "succession", b"log 1", signed) == "classical_signature_wrong"
    assert refusal_of(key.public, "genesis", b"log 2", signed) == "classical_signature_wrong"
    assert owner.statement_to_be_signed("a", b"b") == b"tillstone/owner/v1\x00a\x00b"
    with pytest.raises(Bug):
        owner.statement_to_be_signed("a\x00b", b"")


def test_a_refusal_names_the_class_that_is_wrong(key: OwnerKey, signed: OwnerSignature) -> None:
    def changed(text: bytes) -> bytes:
        return text[:-1] + bytes((text[-1] ^ 1,))

    for forged, code in (
        (replace(signed, classical=changed(signed.classical)), "classical_signature_wrong"),
        (replace(signed, post_quantum=changed(signed.post_quantum)), "post_quantum_signature_wrong"),
        (replace(signed, classical=b""), "classical_signature_wrong"),
        (replace(signed, post_quantum=b""), "post_quantum_signature_wrong"),
        (replace(signed, classical_key_id=bytes(32)), "classical_signature_missing"),
        (replace(signed, post_quantum_key_id=bytes(32)), "post_quantum_signature_missing"),
        (replace(signed, post_quantum_key_id=signed.classical_key_id), "classical_signature_repeated"),
    ):
        assert refusal_of(key.public, "genesis", b"log 1", forged) == code


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_the_key_survives_its_file(key: OwnerKey, tmp_path: Path, passphrase: bytes | None) -> None:
    path = tmp_path / "owner.key"
    key.save(path, passphrase)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = OwnerKey.load(path, passphrase)
    assert loaded.public == key.public
    assert "_post_quantum" not in repr(loaded)
    with pytest.raises(FileExistsError):
        key.save(path, passphrase)
    with pytest.raises(Rejected) as refusal:
        OwnerKey.load(path, b"wrong" if passphrase else b"unexpected")
    assert refusal.value.code == "owner_passphrase_wrong"


def test_another_file_is_no_owner_key(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(cbor.encode(["tillstone owner key", 1, b""]))
    with pytest.raises(Rejected) as refusal:
        OwnerKey.load(path, None)
    assert refusal.value.code == "owner_file_malformed"


@pytest.mark.parametrize("value", [[b"a"], {"a": 1}, [b"a", 1], [b"a", b"b", b"c"]])
def test_a_malformed_pin_is_refused(value: object) -> None:
    with pytest.raises(Rejected):
        OwnerPublic.decode(cbor.encode(value))


def test_a_pin_with_swapped_keys_is_refused(key: OwnerKey) -> None:
    with pytest.raises(Rejected) as refusal:
        OwnerPublic.decode(cbor.encode([key.public.post_quantum, key.public.classical]))
    assert refusal.value.code == "algorithm_key_mismatch"


def test_receipts_need_one_of_each_class_and_nothing_else() -> None:
    classical, post_quantum = signing_key.generate(cose.ED25519), signing_key.generate(cose.ML_DSA_87)
    stranger = signing_key.generate(cose.ED25519)
    pinned = hybrid.HybridPublic(
        classical=hybrid.PinnedKey(algorithm=cose.ED25519, public_key=classical.public_key),
        post_quantum=hybrid.PinnedKey(algorithm=cose.ML_DSA_87, public_key=post_quantum.public_key),
    )

    def by(key: signing_key.SigningKey) -> hybrid.Signed:
        statement = os.urandom(8)
        return hybrid.Signed(
            key_id=key.key_id, algorithm=key.algorithm, to_be_signed=statement, signature=key.sign(statement)
        )

    hybrid.require_both(pinned, [by(post_quantum), by(classical)], noun="receipt")
    for signatures, code in (
        ([], "classical_receipt_missing"),
        ([by(classical)], "post_quantum_receipt_missing"),
        ([by(post_quantum)], "classical_receipt_missing"),
        ([by(stranger), by(post_quantum)], "classical_receipt_missing"),
        ([by(classical), by(post_quantum), by(stranger)], "receipt_key_unknown"),
        ([by(classical), by(classical), by(post_quantum)], "classical_receipt_repeated"),
        ([replace(by(classical), algorithm=cose.EDDSA), by(post_quantum)], "classical_receipt_wrong"),
    ):
        with pytest.raises(Rejected) as refusal:
            hybrid.require_both(pinned, signatures, noun="receipt")
        assert refusal.value.code == code

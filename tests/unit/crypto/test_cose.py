"""COSE_Sign1: exact bytes, and the published ML-DSA examples."""

from __future__ import annotations

import pytest

from appliance.crypto import cbor, cose, signature, signing_key
from appliance.model.errors import Rejected
from tests.unit.crypto import vectors

PROTECTED = cose.encode_protected({cose.ALG: cose.ESP256, cose.KEY_ID: b"k" * 32})


def test_the_bytes_are_those_of_the_format_page() -> None:
    protected = cose.encode_protected({1: -9, 4: b"\x11"})
    assert protected.hex() == "a20128044111"
    assert cose.sign1_to_be_signed(protected, b"hi").hex() == "846a5369676e61747572653146a2012804411140426869"
    assert cose.encode_sign1(protected, {}, b"hi", b"\x22").hex() == "d28446a20128044111a04268694122"
    assert cose.encode_sign1(protected, {}, None, b"\x22", tagged=False).hex() == "8446a20128044111a0f64122"


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("payload", [b"sale", b"", None])
def test_a_message_survives_the_round_trip(tagged: bool, payload: bytes | None) -> None:
    data = cose.encode_sign1(PROTECTED, {cose.VDP: {-1: [b"proof"]}}, payload, b"s" * 64, tagged=tagged)
    message = cose.decode_sign1(data, size_max=1000)
    assert (message.protected_bytes, message.payload, message.signature) == (PROTECTED, payload, b"s" * 64)
    assert message.algorithm == cose.ESP256
    assert message.key_id == b"k" * 32
    assert message.unprotected == {396: {-1: [b"proof"]}}


def test_exactly_one_payload_is_signed() -> None:
    attached = cose.decode_sign1(cose.encode_sign1(PROTECTED, {}, b"a", b"s"), size_max=1000)
    detached = cose.decode_sign1(cose.encode_sign1(PROTECTED, {}, None, b"s"), size_max=1000)
    assert attached.to_be_signed() == detached.to_be_signed(b"a") == cose.sign1_to_be_signed(PROTECTED, b"a")
    for message, payload, code in (
        (attached, b"a", "cose_payload_ambiguous"),
        (detached, None, "cose_payload_missing"),
    ):
        with pytest.raises(Rejected) as refusal:
            message.to_be_signed(payload)
        assert refusal.value.code == code


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ([PROTECTED, {}, b"p"], "cose_malformed"),
        ([PROTECTED, {}, b"p", b"s", b""], "cose_malformed"),
        ({1: 2}, "cose_malformed"),
        ([{}, {}, b"p", b"s"], "cose_malformed"),
        ([PROTECTED, [], b"p", b"s"], "cose_malformed"),
        ([PROTECTED, {}, "p", b"s"], "cose_malformed"),
        ([PROTECTED, {}, b"p", None], "cose_malformed"),
        ([b"\x80", {}, b"p", b"s"], "cose_malformed"),
        ([cbor.encode({1: -9, 4: "text"}), {}, b"p", b"s"], "cose_malformed"),
        ([b"", {1: -9}, b"p", b"s"], "cose_algorithm_missing"),
        ([b"\xa0", {1: -9}, b"p", b"s"], "cose_algorithm_missing"),
        ([cbor.encode({1: "ES256"}), {}, b"p", b"s"], "cose_algorithm_missing"),
        ([cbor.encode({1: True}), {}, b"p", b"s"], "cose_algorithm_missing"),
        ([cbor.encode({1: -9, 2: [4]}), {}, b"p", b"s"], "cose_critical_header"),
        ([PROTECTED, {2: [4]}, b"p", b"s"], "cose_critical_header"),
        ([PROTECTED, {1: -50}, b"p", b"s"], "cose_duplicate_header"),
        ([PROTECTED, {4: b"other"}, b"p", b"s"], "cose_duplicate_header"),
        ([bytes.fromhex("a201280128"), {}, b"p", b"s"], "cbor_duplicate_key"),
        ([bytes.fromhex("a101382f00"), {}, b"p", b"s"], "cbor_trailing_bytes"),
    ],
)
def test_other_shapes_are_refused_with_their_code(message: object, code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        cose.decode_sign1(cbor.encode(message), size_max=1000)
    assert refusal.value.code == code


@pytest.mark.parametrize("tag", [17, 61, 98])
def test_only_the_tag_of_sign1_is_accepted(tag: int) -> None:
    data = cose.encode_sign1(PROTECTED, {}, b"p", b"s", tagged=False)
    with pytest.raises(Rejected) as refusal:
        cose.decode_sign1(cbor.head(6, tag) + data, size_max=1000)
    assert refusal.value.code == "cbor_forbidden_type"
    with pytest.raises(Rejected):
        cose.decode_sign1(b"\xd2\xd2" + data, size_max=1000)


@pytest.mark.parametrize("name", ["44", "65", "87"])
def test_published_ml_dsa_messages_verify(name: str) -> None:
    example = vectors.load(f"rfc9964_ML_DSA_{name}.cose.json.gz")
    message = cose.decode_sign1(bytes.fromhex(example["sign1"]), size_max=10_000)
    to_be_signed = message.to_be_signed()
    assert to_be_signed == bytes.fromhex(example["raw_to_be_signed"])
    public_key = ml_dsa_public_key(name, bytes.fromhex(example["raw_public_key"]))
    assert signature.verify(message.algorithm, public_key, to_be_signed, message.signature)
    assert not signature.verify(message.algorithm, public_key, to_be_signed + b"x", message.signature)


def ml_dsa_public_key(name: str, raw: bytes) -> bytes:
    """SubjectPublicKeyInfo (RFC 9881) of a raw key."""
    oid = {"44": 0x11, "65": 0x12, "87": 0x13}[name]
    bits = len(raw) + 1
    algorithm = bytes.fromhex("300b0609608648016503040300")[:-1] + bytes((oid,))
    body = algorithm + b"\x03\x82" + bits.to_bytes(2, "big") + b"\x00" + raw
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize("algorithm", [cose.ESP256, cose.ED25519, cose.ML_DSA_87])
def test_a_signed_message_verifies_and_a_changed_header_does_not(algorithm: int) -> None:
    key = signing_key.generate(algorithm)
    protected = cose.encode_protected({cose.ALG: algorithm, cose.KEY_ID: key.key_id})
    signed = key.sign(cose.sign1_to_be_signed(protected, b"sale"))
    message = cose.decode_sign1(cose.encode_sign1(protected, {}, b"sale", signed), size_max=10_000)
    assert signature.verify(algorithm, key.public_key, message.to_be_signed(), message.signature)
    other = cose.sign1_to_be_signed(cose.encode_protected({cose.ALG: algorithm}), b"sale")
    assert not signature.verify(algorithm, key.public_key, other, message.signature)

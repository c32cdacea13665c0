"""JWS compact: three strict parts and a header that cannot choose anything."""

from __future__ import annotations

import json

import pytest

from appliance.crypto import cose, jwk, jws, signature, signing_key, strict_json
from appliance.crypto.signing_key import TerminalKey
from appliance.model.errors import Rejected

KEY = TerminalKey.generate()
KID = jws.to_base64url(KEY.key_id).decode()


def token(header: object, payload: bytes = b"{}", tail: bytes = b"\x00" * 64) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return b".".join(jws.to_base64url(part) for part in (raw, payload, tail))


def test_a_token_verifies_by_its_key_alone() -> None:
    decoded = jws.decode(jws.sign(KEY, b'{"amount": 1299}', media_type="tillstone+json"), size_max=1000)
    assert (decoded.key_id, decoded.type, decoded.payload) == (KEY.key_id, "tillstone+json", {"amount": 1299})
    assert decoded.is_signed_by(KEY.public_key)
    assert not decoded.is_signed_by(TerminalKey.generate().public_key)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "jws_malformed"),
        (b"a.b", "jws_malformed"),
        (b"a.b.c.d", "jws_malformed"),
        (b"e30=.e30.AA", "jws_malformed"),
        (b"e3 0.e30.AA", "jws_malformed"),
        (b"e30\n.e30.AA", "jws_malformed"),
        (b"e31.e30.AA", "jws_malformed"),
        (b"e3+.e30.AA", "jws_malformed"),
        (b"e.e30.AA", "jws_malformed"),
        (token({"alg": "ES256", "kid": KID}, tail=b"\x00" * 63), "jws_malformed"),
        (token({"alg": "ES256", "kid": KID, "crit": ["b64"], "b64": False}), "jws_header_refused"),
        (token({"alg": "ES256", "kid": KID, "crit": "b64"}), "jws_header_refused"),
        (token({"alg": "ES256", "kid": KID, "jwk": {}}), "jws_header_refused"),
        (token({"alg": "ES256", "kid": KID, "jku": "https://x"}), "jws_header_refused"),
        (token({"alg": "ES256"}), "jws_header_refused"),
        (token({"alg": "ES256", "kid": "AAAA"}), "jws_header_refused"),
        (token({"alg": "ES256", "kid": KID, "typ": 1}), "jws_header_refused"),
        (token([]), "jws_header_refused"),
        (token({"alg": "none", "kid": KID}), "jws_algorithm_refused"),
        (token({"alg": "HS256", "kid": KID}), "jws_algorithm_refused"),
        (token({"alg": "ES384", "kid": KID}), "jws_algorithm_refused"),
        (token(b'{"alg":"none","alg":"ES256"}'), "json_duplicate_key"),
        (token({"alg": "ES256", "kid": KID}, b'{"a":1,"a":2}'), "json_duplicate_key"),
        (token({"alg": "ES256", "kid": KID}, b'{"a":1.0}'), "json_forbidden_number"),
        (b"A" * 2001, "jws_too_large"),
    ],
)
def test_other_tokens_are_refused_with_their_code(data: bytes, code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        jws.decode(data, size_max=2000)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{", "json_malformed"),
        (b"\xff", "json_malformed"),
        (b"\xef\xbb\xbf{}", "json_malformed"),
        (b"{} {}", "json_malformed"),
        (b'"\\ud800"', "json_malformed"),
        (b'{"\\udfff": 1}', "json_malformed"),
        (b"1e3", "json_forbidden_number"),
        (b"-0", "json_forbidden_number"),
        (b"NaN", "json_forbidden_number"),
        (b"-Infinity", "json_forbidden_number"),
        (b"18446744073709551616", "json_forbidden_number"),
        (b"9" * 400, "json_forbidden_number"),
        (b'{"a": {"b": 1, "b": 1}}', "json_duplicate_key"),
        (b'{"a": 1, "\\u0061": 1}', "json_duplicate_key"),
        (b"[" * 17 + b"]" * 17, "json_too_deep"),
        (b"[" * 400 + b"]" * 400, "json_too_deep"),
        (b" " * 1001, "json_too_large"),
    ],
)
def test_json_with_two_meanings_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        strict_json.decode(data, size_max=1000)
    assert refusal.value.code == code


def test_json_nested_beyond_the_stack_is_refused() -> None:
    with pytest.raises(Rejected) as refusal:
        strict_json.decode(b"[" * 200_000, size_max=1 << 20)
    assert refusal.value.code == "json_too_deep"


def test_the_largest_integers_of_cbor_pass() -> None:
    assert strict_json.decode(b"[18446744073709551615, -18446744073709551616, true, null]", size_max=99) == [
        (1 << 64) - 1,
        -(1 << 64),
        True,
        None,
    ]


def test_public_keys_survive_pem_and_jwk() -> None:
    assert jwk.from_pem(jwk.to_pem(KEY.public_key).encode()) == KEY.public_key
    assert jwk.p256_from_jwk(jwk.to_jwk(KEY.public_key)) == KEY.public_key
    assert jwk.to_jwk(signing_key.generate(cose.ED25519).public_key)["kty"] == "OKP"
    for changed in (
        {"kty": "RSA"},
        {"crv": "P-384"},
        {"x": "AA"},
        {"y": jws.to_base64url(b"\x01" * 32).decode()},
        {"d": "AA"},
    ):
        with pytest.raises(Rejected) as refusal:
            jwk.p256_from_jwk(jwk.to_jwk(KEY.public_key) | changed)
        assert refusal.value.code == "public_key_malformed"


def test_the_thumbprint_is_that_of_rfc_8037() -> None:
    # RFC 8037 appendix A.3, an Ed25519 key.
    der = bytes.fromhex("302a300506032b6570032100") + jws.from_base64url(b"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert jws.to_base64url(jwk.thumbprint(der)) == b"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert signature.key_id(der) != jwk.thumbprint(der)

"""Owns the refusals of what is no signed request of ours: malformed, oversized, compressed, cut off."""

from __future__ import annotations

import json

import msgspec
import pytest

from appliance.crypto import jws
from appliance.model.limits import BATCH_BYTES_MAX, REQUEST_BYTES_MAX
from provisioning.terminal.signing import Encoding
from tests.integration.box import RunningBox
from tests.integration.pos_refusals.refused import BOTH, CARD_NUMBER, JOSE, assert_refused
from tests.integration.till import CASH, Till, new_key

DEEP_JSON = b'{"v":' + b"[" * 40 + b"]" * 40 + b"}"
DEEP_CBOR = b"\xa1\x61v" + b"\x81" * 40 + b"\x80"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "json_malformed"),
        (b"\xff\xfe", "json_malformed"),
        (b'{"v":1', "json_malformed"),
        (b'{"v":1}x', "json_malformed"),
        (b'{"v":"\\ud800"}', "json_malformed"),
        (b'{"v":1,"v":1}', "json_duplicate_key"),
        (b'{"v":1.0}', "json_forbidden_number"),
        (b'{"v":1e3}', "json_forbidden_number"),
        (b'{"v":NaN}', "json_forbidden_number"),
        (b'{"v":' + b"9" * 5000 + b"}", "json_forbidden_number"),
        (DEEP_JSON, "json_too_deep"),
        (b'{"v":' + b"[" * 20_000, "json_too_deep"),
        (b"[]", "claims_invalid"),
        (b"null", "claims_invalid"),
        (b"{}", "claims_invalid"),
    ],
)
def test_malformed_json_is_refused(till: Till, unchanged: None, payload: bytes, code: str) -> None:
    assert_refused(till.post("/v1/payment", till.sign(payload, Encoding.JWS), Encoding.JWS), 400, code)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "cbor_malformed"),
        (b"\xa1\x61v", "cbor_malformed"),
        (b"\xa1\x61v\x01\x00", "cbor_trailing_bytes"),
        (b"\xa1\x61v\x18\x01", "cbor_not_canonical"),
        (b"\xbf\x61v\x01\xff", "cbor_not_canonical"),
        (b"\xa2\x61v\x01\x61a\x01", "cbor_not_canonical"),
        (b"\xa2\x61v\x01\x61v\x01", "cbor_duplicate_key"),
        (b"\xa1\x61v\xf9\x3c\x00", "cbor_forbidden_type"),
        (b"\xa1\x61v\xc0\x60", "cbor_forbidden_type"),
        (b"\xa1\xf5\x01", "cbor_forbidden_type"),
        (b"\xa1\x61v\x62\xff\xfe", "cbor_malformed"),
        (DEEP_CBOR, "cbor_too_deep"),
        (b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "cbor_malformed"),
        (b"\x80", "claims_invalid"),
        (b"\xa0", "claims_invalid"),
    ],
)
def test_malformed_cbor_is_refused(till: Till, unchanged: None, payload: bytes, code: str) -> None:
    assert_refused(till.post("/v1/payment", till.sign(payload, Encoding.COSE), Encoding.COSE), 400, code)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "cbor_malformed"),
        (b"\x80", "cose_malformed"),
        (b"\xd2\x84\x40\xa0\x40", "cbor_malformed"),
        (b"\xd2\x84\x40\xa0\x40\x40", "cose_algorithm_missing"),
    ],
)
def test_malformed_envelope_is_refused(till: Till, unchanged: None, raw: bytes, code: str) -> None:
    assert_refused(till.post("/v1/payment", raw, Encoding.COSE), 400, code)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"alg": "none"}, "jws_algorithm_refused"),
        ({"alg": "HS256", "kid": "x"}, "jws_algorithm_refused"),
        ({"alg": "ES256"}, "jws_header_refused"),
        ({"alg": "ES256", "kid": "AA"}, "jws_header_refused"),
        ({"alg": "ES256", "kid": "AA", "jwk": {}}, "jws_header_refused"),
        ({"alg": "ES256", "kid": "AA", "crit": ["b64"]}, "jws_header_refused"),
    ],
)
def test_token_with_another_header_is_refused(till: Till, unchanged: None, header: object, code: str) -> None:
    parts = [json.dumps(header).encode(), msgspec.json.encode(till.claims("payment", CASH)), bytes(64)]
    raw = b".".join(jws.to_base64url(part) for part in parts)
    assert_refused(till.post("/v1/payment", raw, Encoding.JWS), 400, code)


@BOTH
def test_oversized_body_is_refused_with_and_without_a_length(till: Till, unchanged: None, encoding: Encoding) -> None:
    large = bytes(REQUEST_BYTES_MAX + 1)
    assert_refused(till.post("/v1/payment", large, encoding), 413, "too_large")
    headers = {"Content-Type": encoding.value, "Transfer-Encoding": "chunked"}
    for size in (REQUEST_BYTES_MAX + 1, BATCH_BYTES_MAX + 70_000):
        chunks = b"".join(b"10000\r\n%s\r\n" % bytes(65_536) for _ in range(size // 65_536 + 1)) + b"0\r\n\r\n"
        assert_refused(till.request("POST", "/v1/payment", chunks, headers), 413, "too_large")
    assert_refused(till.post("/v1/batch", bytes(BATCH_BYTES_MAX + 1), encoding), 413, "too_large")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "nonsense", "application/cbor"])
def test_other_content_type_is_refused(till: Till, unchanged: None, content_type: str) -> None:
    reply = till.request("POST", "/v1/payment", b"{}", {"Content-Type": content_type})
    assert_refused(reply, 415, "media_type_unsupported")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/payment", 405, "method_not_allowed"),
        ("DELETE", "/v1/batch", 405, "method_not_allowed"),
        ("POST", "/v1/events", 405, "method_not_allowed"),
        ("POST", "/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", f"/v1/{CARD_NUMBER}", 404, "not_found"),
        ("GET", "/v1/../metrics", 404, "not_found"),
    ],
)
def test_wrong_path_or_method_is_refused(
    till: Till, unchanged: None, method: str, path: str, status: int, code: str
) -> None:
    reply = till.request(method, path, b"" if method == "POST" else None, JOSE)
    assert_refused(reply, status, code)


def test_compressed_body_is_refused(till: Till, unchanged: None) -> None:
    for coding in ("gzip", "deflate", "identity", "nonsense"):
        reply = till.request("POST", "/v1/payment", b"\x1f\x8bnonsense", JOSE | {"Content-Encoding": coding})
        assert_refused(reply, 415, "media_type_unsupported")


def test_caller_that_hangs_up_in_the_middle_of_its_body_leaves_no_trace(
    box: RunningBox, till: Till, unchanged: None
) -> None:
    for _ in range(3):
        with box.connect() as connection:
            connection.sendall(b"POST /v1/payment HTTP/1.1\r\nHost: x\r\nContent-Type: application/jose\r\n")
            connection.sendall(b"Content-Length: 1000\r\n\r\nabc")
    assert till.ask("status", {"of": new_key()}).status == 404
    assert box.events("request.crashed") == []

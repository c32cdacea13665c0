"""Bad input at the real door: a stable code, nothing in the log, nothing secret anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from appliance.crypto import cbor, cose, jws
from appliance.crypto.signing_key import TerminalKey
from appliance.model.limits import BATCH_BYTES_MAX, MINUTE_MS, REQUEST_BYTES_MAX
from provisioning.terminal.signing import Encoding
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, Reply, Till, new_key, now_ms, paired_till

BOTH = pytest.mark.parametrize("encoding", list(Encoding))
CARD_NUMBER = "4242424242424242"
COSE = {"Content-Type": "application/cose"}
JOSE = {"Content-Type": "application/jose"}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    with running_box(tmp_path_factory.mktemp("shop")) as running:
        yield running
        # Whatever the tests of this module sent, the box never met an error of its own.
        assert running.events("request.crashed") == []
        assert CARD_NUMBER not in running.said()
        assert CARD_NUMBER.encode() not in running.data_bytes()


@pytest.fixture(scope="module")
def till(box: RunningBox, tmp_path_factory: pytest.TempPathFactory) -> Till:
    return paired_till(box, tmp_path_factory.mktemp("tills"), "till-1")


@pytest.fixture
def unchanged(box: RunningBox) -> Iterator[None]:
    """The log is as long after the test as before, but for summaries of refusals."""
    before = box.log_size()
    yield
    assert box.log_size() == before


def assert_refused(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.code) == (status, code), reply.raw[:300]
    assert reply.body["status"] == status
    assert abs(reply.body["now_ms"] - now_ms()) < MINUTE_MS
    assert CARD_NUMBER.encode() not in reply.raw


# --- form ---

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


# --- who ---


@BOTH
def test_stranger_wrong_key_and_wrong_name_are_refused(
    box: RunningBox, till: Till, unchanged: None, encoding: Encoding
) -> None:
    stranger = Till(box, "till-1", TerminalKey.generate())
    assert_refused(stranger.ask("payment", CASH, encoding=encoding), 401, "terminal_unknown")
    assert_refused(till.ask("payment", CASH, encoding=encoding, terminal="till-2"), 401, "terminal_mismatch")
    claims = till.claims("payment", CASH)
    if encoding is Encoding.JWS:
        honest = till.signed(claims, encoding).split(b".")
        forged = b".".join([honest[0], honest[1], jws.to_base64url(stranger.key.sign(b"other"))])
    else:
        protected = cose.encode_protected({cose.ALG: till.key.algorithm, cose.KEY_ID: till.key.key_id})
        forged = cose.encode_sign1(protected, {}, cbor.encode(claims), stranger.key.sign(b"other"))
    assert_refused(till.post("/v1/payment", forged, encoding), 401, "signature_wrong")


def test_refusal_of_a_stranger_says_nothing_of_the_sale(box: RunningBox, unchanged: None) -> None:
    stranger = Till(box, "till-1", TerminalKey.generate())
    replies = [
        stranger.ask("payment", {"nonsense": 1}),
        stranger.ask("payment", CASH, audience="another-box"),
        stranger.ask("payment", CASH, signed_at_ms=1),
        stranger.ask("payment", CASH, seen={"size": 10**9, "root": "00" * 32}),
    ]
    assert {reply.code for reply in replies} == {"terminal_unknown"}


@BOTH
def test_wrong_audience_verb_and_clock_are_refused(till: Till, unchanged: None, encoding: Encoding) -> None:
    assert_refused(till.ask("payment", CASH, encoding=encoding, audience="other/BOX/1"), 403, "wrong_audience")
    assert_refused(till.ask("payment", CASH, encoding=encoding, verb="refund"), 400, "wrong_verb")
    for skew_ms in (-6 * MINUTE_MS, 6 * MINUTE_MS):
        reply = till.ask("payment", CASH, encoding=encoding, signed_at_ms=now_ms() + skew_ms)
        assert_refused(reply, 400, "clock_skew")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"v": 2}, "claims_invalid"),
        ({"v": None}, "claims_invalid"),
        ({"verb": "steal"}, "claims_invalid"),
        ({"signed_at_ms": -1}, "claims_invalid"),
        ({"signed_at_ms": 2**64 - 1}, "claims_invalid"),
        ({"signed_at_ms": "1"}, "claims_invalid"),
        ({"body": []}, "claims_invalid"),
        ({"surplus": 1}, "claims_invalid"),
        ({"seen": {"size": -1, "root": "00" * 32}}, "claims_invalid"),
        ({"seen": {"size": 1, "root": "00" * 31}}, "claims_invalid"),
        ({"seen": {"size": 1, "root": "00" * 32 + "\n"}}, "claims_invalid"),
        ({"key": "x" * 36}, "key_not_uuidv7"),
        ({"key": "00000000-0000-4000-8000-000000000000"}, "key_not_uuidv7"),
        ({"key": "x"}, "claims_invalid"),
        ({"audience": "x" * 65}, "claims_invalid"),
    ],
)
@BOTH
def test_claims_of_another_shape_are_refused(
    till: Till, unchanged: None, changed: dict[str, Any], code: str, encoding: Encoding
) -> None:
    assert_refused(till.ask("payment", CASH, encoding=encoding, **changed), 400, code)


# --- the sale ---


def cash(amount: object, **more: object) -> dict[str, Any]:
    return {"currency": "EUR", "amount_minor": amount, "tenders": [{"kind": "cash", "amount_minor": amount}]} | more


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (cash(100, currency="XYZ"), 422, "currency_unknown"),
        (cash(100, currency="USD"), 422, "currency_not_sold"),
        (cash(100, currency="eur"), 400, "body_invalid"),
        (cash(100, currency="EUR\n"), 400, "body_invalid"),
        (cash(0), 422, "amount_not_positive"),
        (cash(-5), 400, "body_invalid"),
        (cash(10**9 + 1), 400, "body_invalid"),
        (cash(2**64 - 1), 400, "body_invalid"),
        (cash("100"), 400, "body_invalid"),
        (cash(True), 400, "body_invalid"),
        (cash(100, tenders=[]), 400, "body_invalid"),
        (cash(100, tenders=[{"kind": "cash", "amount_minor": 0}]), 422, "tender_not_positive"),
        (cash(100, tenders=[{"kind": "cash", "amount_minor": 99}]), 422, "tenders_do_not_add_up"),
        (cash(100, change_minor=1), 422, "tenders_do_not_add_up"),
        (cash(100, change_minor=101), 422, "change_wrong"),
        (cash(100, rounding_minor=1), 422, "tenders_do_not_add_up"),
        (cash(100, total_minor=99), 422, "total_wrong"),
        (cash(100, tip_minor=1), 422, "tenders_do_not_add_up"),
        (cash(100, tenders=[{"kind": "cash", "amount_minor": 101}], rounding_minor=1), 422, "rounding_wrong"),
        (cash(100, sold_at_ms=0), 422, "sold_at_out_of_range"),
        (cash(100, sold_at_ms=2**48 - 1), 422, "sold_at_out_of_range"),
        (cash(100, lines=[{"sku": "x", "unit_price_minor": 100}]), 422, "amount_and_lines"),
        (cash(100, surplus=1), 400, "body_invalid"),
        (cash(100, reference="x" * 201), 400, "body_invalid"),
        (cash(100, tenders=[{"kind": "card", "amount_minor": 100}]), 422, "cards_not_taken"),
        (cash(100, tenders=[{"kind": "gold", "amount_minor": 100}]), 400, "body_invalid"),
        (
            cash(100, tenders=[{"kind": "card", "amount_minor": 50}, {"kind": "card", "amount_minor": 50}]),
            422,
            "too_many_cards",
        ),
        (cash(100, tenders=[{"kind": "cash", "amount_minor": 100}] * 9), 400, "body_invalid"),
        ({"currency": "EUR", "tenders": [{"kind": "cash", "amount_minor": 5}]}, 422, "amount_not_positive"),
        (
            {
                "currency": "EUR",
                "lines": [{"sku": "x", "unit_price_minor": 5}],
                "tenders": [{"kind": "cash", "amount_minor": 5}],
            },
            422,
            "total_missing",
        ),
        (
            {
                "currency": "EUR",
                "lines": [{"sku": "x", "unit_price_minor": 5, "discount_minor": 6}],
                "total_minor": 1,
                "tenders": [{"kind": "cash", "amount_minor": 1}],
            },
            422,
            "line_negative",
        ),
        (
            {
                "currency": "EUR",
                "lines": [{"sku": "x", "unit_price_minor": 10**9, "quantity_thousandths": 10**9}],
                "total_minor": 10**9,
                "tenders": [{"kind": "cash", "amount_minor": 10**9}],
            },
            422,
            "total_wrong",
        ),
        (
            {
                "currency": "EUR",
                "lines": [{"sku": "x", "unit_price_minor": 107, "tax_code": "A", "tax_rate_basis_points": 700}],
                "total_minor": 107,
                "tenders": [{"kind": "cash", "amount_minor": 107}],
            },
            422,
            "taxes_incomplete",
        ),
        (
            {
                "currency": "EUR",
                "lines": [{"sku": "x", "unit_price_minor": 107, "tax_code": "A", "tax_rate_basis_points": 700}],
                "taxes": [{"tax_code": "A", "rate_basis_points": 700, "net_minor": 50, "tax_minor": 57}],
                "total_minor": 107,
                "tenders": [{"kind": "cash", "amount_minor": 107}],
            },
            422,
            "tax_wrong",
        ),
    ],
)
@BOTH
def test_sale_that_is_not_right_is_refused(
    till: Till, unchanged: None, body: dict[str, Any], status: int, code: str, encoding: Encoding
) -> None:
    assert_refused(till.ask("payment", body, encoding=encoding), status, code)


LINE = {"sku": "x", "unit_price_minor": 100}


def with_line(**more: object) -> dict[str, Any]:
    sale = cash(100, total_minor=100, lines=[LINE | more])
    del sale["amount_minor"]
    return sale


@pytest.mark.parametrize(
    ("verb", "make"),
    [
        ("payment", lambda number: cash(100, reference=number)),
        ("payment", lambda number: cash(100, cashier=f"Ada {number}")),
        ("payment", lambda number: cash(100, customer=number)),
        ("payment", lambda number: with_line(sku=number)),
        ("payment", lambda number: with_line(tax_code=number, tax_rate_basis_points=0)),
        (
            "payment",
            lambda number: (
                with_line()
                | {"taxes": [{"tax_code": number, "rate_basis_points": 0, "net_minor": 100, "tax_minor": 0}]}
            ),
        ),
        ("payment", lambda number: cash(100, tenders=[{"kind": "card", "amount_minor": 100, "source": number}])),
        ("refund", lambda number: {"of": new_key(), "reason": number}),
        ("reversal", lambda number: {"of": new_key(), "reason": number}),
    ],
)
@pytest.mark.parametrize("number", [CARD_NUMBER, "4242 4242 4242 4242", "378282246310005"])
@BOTH
def test_card_number_in_any_text_is_refused(
    till: Till,
    unchanged: None,
    verb: str,
    make: Callable[[str], dict[str, Any]],
    number: str,
    encoding: Encoding,
) -> None:
    reply = till.ask(verb, make(number), encoding=encoding)
    assert_refused(reply, 422, "card_number_refused")
    assert number.encode() not in reply.raw


@pytest.mark.parametrize(
    "body",
    [
        cash(100) | {CARD_NUMBER: 1},
        cash(100) | {f"x` - at `$.{CARD_NUMBER}": 1},
        cash(100, prices=CARD_NUMBER),
        cash(100, currency=CARD_NUMBER),
        cash(int(CARD_NUMBER)),
        cash(100, tenders=[{"kind": CARD_NUMBER, "amount_minor": 100}]),
        cash(100, tenders=[{"kind": "cash", "amount_minor": 100, CARD_NUMBER: CARD_NUMBER}]),
    ],
)
@BOTH
def test_refused_shape_is_never_repeated_in_the_answer(
    till: Till, unchanged: None, body: dict[str, Any], encoding: Encoding
) -> None:
    assert_refused(till.ask("payment", body, encoding=encoding), 400, "body_invalid")
    assert_refused(till.ask("payment", CASH, encoding=encoding, **{CARD_NUMBER: CARD_NUMBER}), 400, "claims_invalid")
    assert_refused(till.ask("payment", CASH, encoding=encoding, verb=CARD_NUMBER), 400, "claims_invalid")


@BOTH
def test_batch_repeats_no_key_that_is_none(till: Till, unchanged: None, encoding: Encoding) -> None:
    key = f"{CARD_NUMBER}-{CARD_NUMBER}xxx"
    reply = till.ask("batch", {"items": [{"key": key, "payment": CASH}]}, encoding=encoding)
    assert_refused(reply, 400, "key_not_uuidv7")


def test_batch_of_another_size_is_refused(till: Till, unchanged: None) -> None:
    assert_refused(till.ask("batch", {"items": []}), 400, "body_invalid")
    items = [{"key": new_key(), "payment": CASH}] * 1001
    assert_refused(till.ask("batch", {"items": items}), 400, "body_invalid")


@pytest.mark.parametrize("query", ["x", "", "-2", "--5", "9" * 19, "9" * 400, "1.0", "٣", "%00"])
def test_events_after_nonsense_are_refused(till: Till, unchanged: None, query: str) -> None:
    with till.events(query=_quoted(query)) as answer:
        assert answer.status == 400
        assert msgspec.json.decode(answer.read())["code"] == "body_invalid"


def _quoted(text: str) -> str:
    return "".join(f"%{octet:02x}" for octet in text.encode())


@pytest.mark.parametrize(
    "header", ["", "Bearer x", "Tillstone ", "Tillstone a.b", "Tillstone \xff\xfe", "Tillstone a.b.c"]
)
def test_events_without_a_signed_request_are_refused(till: Till, unchanged: None, header: str) -> None:
    reply = till.request("GET", "/v1/events", None, {"Authorization": header})
    assert reply.status in (400, 401), reply
    assert reply.code in ("signature_wrong", "jws_malformed"), reply


def test_events_token_for_another_verb_is_refused(till: Till, unchanged: None) -> None:
    token = till.sign(msgspec.json.encode(till.claims("status", {"of": new_key()})), Encoding.JWS).decode()
    reply = till.request("GET", "/v1/events", None, {"Authorization": f"Tillstone {token}"})
    assert_refused(reply, 400, "wrong_verb")


# --- anything at all ---

FUZZ = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PATHS = st.sampled_from(["payment", "status", "refund", "batch", "pair"])


@FUZZ
@given(path=PATHS, raw=st.binary(max_size=300), encoding=st.sampled_from(list(Encoding)))
def test_random_bytes_are_refused(till: Till, unchanged: None, path: str, raw: bytes, encoding: Encoding) -> None:
    reply = till.post(f"/v1/{path}", raw, encoding)
    assert 400 <= reply.status < 500, reply


@FUZZ
@given(path=PATHS, raw=st.binary(max_size=120), encoding=st.sampled_from(list(Encoding)))
def test_signed_random_bytes_are_refused(
    till: Till, unchanged: None, path: str, raw: bytes, encoding: Encoding
) -> None:
    reply = till.post(f"/v1/{path}", till.sign(raw, encoding), encoding)
    assert 400 <= reply.status < 500, reply


@FUZZ
@given(data=st.data(), encoding=st.sampled_from(list(Encoding)))
def test_mutated_request_is_refused(till: Till, unchanged: None, data: st.DataObject, encoding: Encoding) -> None:
    honest = till.signed(till.claims("payment", CASH), encoding)
    raw = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
    assume(raw != honest)
    reply = till.post("/v1/payment", bytes(raw), encoding)
    assert 400 <= reply.status < 500, reply


WORDS = st.sampled_from(["currency", "tenders", "lines", "of", "items", "key", "payment", "kind", "x", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.text(max_size=40) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@FUZZ
@given(path=PATHS, body=st.dictionaries(WORDS, VALUES, max_size=4), encoding=st.sampled_from(list(Encoding)))
def test_signed_body_of_any_shape_is_refused(
    till: Till, unchanged: None, path: str, body: dict[str, Any], encoding: Encoding
) -> None:
    reply = till.ask(path, body, encoding=encoding)
    assert 400 <= reply.status < 500, reply


@FUZZ
@given(
    change=st.dictionaries(
        st.sampled_from(["v", "verb", "audience", "terminal", "key", "signed_at_ms", "body", "seen"]),
        VALUES,
        min_size=1,
        max_size=2,
    ),
    encoding=st.sampled_from(list(Encoding)),
)
def test_claims_of_any_shape_are_refused(
    till: Till, unchanged: None, change: dict[str, Any], encoding: Encoding
) -> None:
    claims = till.claims("status", {"of": new_key()}) | change
    reply = till.post("/v1/status", till.signed(claims, encoding), encoding)
    assert 400 <= reply.status < 500, reply

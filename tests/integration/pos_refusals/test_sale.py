"""Owns the refusals of sales, batches and streams that ask for something wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from provisioning.terminal.signing import Encoding
from tests.integration.pos_refusals.refused import BOTH, CARD_NUMBER, assert_refused
from tests.integration.till import CASH, Till, new_key


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

"""Sales through the real door of a real box: what a till gets, and what a stranger can verify of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.model.limits import DAY_MS
from provisioning.terminal.signing import Encoding
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CARD, CASH, Till, new_key, now_ms, paired_till, read_event, verified

BOTH = pytest.mark.parametrize("encoding", list(Encoding))

FULL_SALE: dict[str, Any] = {
    "currency": "EUR",
    "reference": "till 3 / 1042",
    "lines": [
        {
            "sku": "COFFEE-250",
            "unit_price_minor": 495,
            "quantity_thousandths": 2000,
            "tax_code": "A",
            "tax_rate_basis_points": 700,
        },
        {
            "sku": "CUP",
            "unit_price_minor": 1290,
            "discount_minor": 100,
            "tax_code": "B",
            "tax_rate_basis_points": 1900,
        },
    ],
    "taxes": [
        {"tax_code": "A", "rate_basis_points": 700, "net_minor": 925, "tax_minor": 65},
        {"tax_code": "B", "rate_basis_points": 1900, "net_minor": 1000, "tax_minor": 190},
    ],
    "total_minor": 2180,
    "tenders": [{"kind": "cash", "amount_minor": 2000}, {"kind": "cash", "amount_minor": 500}],
    "change_minor": 320,
    "cashier": "Ada",
    "customer": "Grace Hopper",
}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    with running_box(tmp_path_factory.mktemp("shop"), has_cards=True) as running:
        yield running


@BOTH
def test_cash_sale_with_lines_taxes_and_change_is_proven_offline(
    box: RunningBox, till: Till, encoding: Encoding
) -> None:
    reply = till.ask("payment", FULL_SALE, encoding=encoding)
    assert (reply.status, reply.body["state"], reply.body["total_minor"]) == (200, "approved", 2180)
    assert reply.content_type == ("application/cbor" if encoding is Encoding.COSE else "application/json")
    (entry,) = verified(box, reply).entries
    assert (entry.kind, entry.seq) == ("sale", reply.body["seq"])
    assert b"Grace Hopper" not in entry.body


@BOTH
def test_amount_only_sale_is_approved(box: RunningBox, till: Till, encoding: Encoding) -> None:
    reply = till.ask("payment", CASH, encoding=encoding)
    assert (reply.status, reply.body["state"]) == (200, "approved")
    assert verified(box, reply).entries[0].kind == "sale"


@BOTH
def test_card_sale_is_accepted_then_told_by_events_then_approved(
    box: RunningBox, till: Till, encoding: Encoding
) -> None:
    key = new_key()
    accepted = till.ask("payment", CARD, key, encoding=encoding)
    assert (accepted.status, accepted.body["state"]) == (202, "being_checked")
    with till.events(after=accepted.body["seq"]) as stream:
        event = read_event(stream)
    assert (event["key"], event["verb"], event["state"]) == (key, "payment", "approved")
    final = till.ask("status", {"of": key}, encoding=encoding)
    assert (final.status, final.body["state"], final.body["verb"]) == (200, "approved", "payment")
    assert [entry.kind for entry in verified(box, final).entries] == ["intent", "outcome"]


def test_cash_and_card_pay_one_sale_together(box: RunningBox, till: Till) -> None:
    key = new_key()
    tenders = [
        {"kind": "cash", "amount_minor": 500},
        {"kind": "card", "amount_minor": 1500, "source": "pm_card_visa"},
    ]
    till.ask("payment", {"currency": "EUR", "amount_minor": 2000, "tenders": tenders}, key)
    assert till.until_final(key).body["state"] == "approved"
    assert box.twin is not None
    assert box.twin.charges()[-1]["amount"] == 1500


def test_declined_card_is_recorded_with_the_providers_code(box: RunningBox, till: Till) -> None:
    key = new_key()
    source = "pm_card_visa_chargeDeclinedInsufficientFunds"
    sale = CARD | {"tenders": [{"kind": "card", "amount_minor": 990, "source": source}]}
    assert till.ask("payment", sale, key).status == 202
    final = till.until_final(key)
    assert (final.body["state"], final.body["code"]) == ("declined", "insufficient_funds")
    assert [entry.kind for entry in verified(box, final).entries] == ["intent", "outcome"]
    refund = till.ask("refund", {"of": key})
    assert (refund.status, refund.code) == (409, "payment_took_no_money")


def test_same_request_again_has_the_same_result_in_either_encoding(box: RunningBox, till: Till) -> None:
    key = new_key()
    first = till.ask("payment", FULL_SALE, key, encoding=Encoding.COSE)
    size = box.log_size()
    again = till.ask("payment", FULL_SALE, key, encoding=Encoding.JWS)
    assert (again.status, again.body["state"], again.body["seq"]) == (200, "approved", first.body["seq"])
    assert box.log_size() == size


def test_written_out_defaults_are_the_same_payload(till: Till) -> None:
    key = new_key()
    first = till.ask("payment", CASH, key)
    again = till.ask("payment", CASH | {"tip_minor": 0, "reference": "", "prices": "tax_included"}, key)
    assert (again.status, again.body["seq"]) == (200, first.body["seq"])


def test_used_key_with_another_payload_is_refused(box: RunningBox, till: Till, other_till: Till) -> None:
    key = new_key()
    till.ask("payment", CASH, key)
    size = box.log_size()
    other = CASH | {"reference": "another"}
    replies = [
        till.ask("payment", other, key),
        other_till.ask("payment", CASH, key),
        till.ask("refund", {"of": key}, key),
    ]
    assert [(reply.status, reply.code) for reply in replies] == [(409, "key_reused")] * 3
    assert box.log_size() == size


@pytest.mark.parametrize(
    ("age_ms", "code"),
    [(90 * DAY_MS + 60_000, "key_too_old"), (-DAY_MS - 60_000, "key_from_the_future")],
)
def test_key_outside_its_time_is_never_new(box: RunningBox, till: Till, age_ms: int, code: str) -> None:
    size = box.log_size()
    reply = till.ask("payment", CASH, new_key(now_ms() - age_ms))
    assert (reply.status, reply.code, box.log_size()) == (400, code, size)


def test_old_sale_is_taken_with_the_time_of_its_selling(till: Till) -> None:
    sold = now_ms() - 80 * DAY_MS
    assert till.ask("payment", CASH | {"sold_at_ms": sold}, new_key(sold)).status == 200


def test_status_of_an_unknown_key_is_not_found(box: RunningBox, till: Till) -> None:
    reply = till.ask("status", {"of": new_key()})
    assert (reply.status, reply.code) == (404, "payment_unknown")


@BOTH
def test_cash_is_refunded_once(box: RunningBox, till: Till, other_till: Till, encoding: Encoding) -> None:
    key, refund_key = new_key(), new_key()
    till.ask("payment", CASH, key, encoding=encoding)
    refunded = till.ask("refund", {"of": key, "reason": "returned"}, refund_key, encoding=encoding)
    assert (refunded.status, refunded.body["state"], refunded.body["verb"]) == (200, "refunded", "refund")
    assert [entry.kind for entry in verified(box, refunded).entries] == ["sale", "refund"]
    again = till.ask("refund", {"of": key, "reason": "returned"}, refund_key, encoding=encoding)
    assert (again.status, again.body["seq"]) == (200, refunded.body["seq"])
    second = other_till.ask("refund", {"of": key}, encoding=encoding)
    assert (second.status, second.code) == (409, "already_undone")
    told = till.ask("status", {"of": refund_key}, encoding=encoding)
    assert (told.body["key"], told.body["verb"], told.body["state"]) == (refund_key, "refund", "refunded")


@pytest.mark.parametrize(("verb", "state"), [("refund", "refunded"), ("reversal", "reversed")])
def test_card_money_goes_back_by_the_provider_once(
    box: RunningBox, till: Till, other_till: Till, verb: str, state: str
) -> None:
    key = new_key()
    till.ask("payment", CARD, key)
    till.until_final(key)
    assert till.ask(verb, {"of": key}).status == 202
    final = till.until_final(key)
    assert final.body["state"] == state
    assert verified(box, final).entries[-1].kind == verb
    assert box.twin is not None
    assert box.twin.charges()[-1]["refunded"] == 990
    second = other_till.ask("refund", {"of": key})
    assert (second.status, second.code) == (409, "already_undone")


def test_refund_of_an_unknown_or_unfinished_payment_is_refused(till: Till) -> None:
    unknown = till.ask("refund", {"of": new_key()})
    assert (unknown.status, unknown.code) == (404, "payment_unknown")


def test_reversed_unknown_payment_is_never_accepted(box: RunningBox, till: Till) -> None:
    key, reversal = new_key(), new_key()
    reply = till.ask("reversal", {"of": key, "reason": "customer left"}, reversal)
    assert (reply.status, reply.body["state"]) == (200, "cancelled")
    assert verified(box, reply).entries[0].kind == "tombstone"
    size = box.log_size()
    assert till.ask("reversal", {"of": key, "reason": "customer left"}, reversal).body["seq"] == reply.body["seq"]
    late = till.ask("payment", CASH, key)
    assert (late.status, late.code, box.log_size()) == (409, "payment_cancelled", size)


@pytest.mark.parametrize("verb", ["reversal", "abort"])
def test_request_cannot_undo_its_own_key(box: RunningBox, till: Till, verb: str) -> None:
    key, size = new_key(), box.log_size()
    reply = till.ask(verb, {"of": key}, key)
    assert (reply.status, reply.code, box.log_size()) == (409, "key_reused", size)


@pytest.mark.parametrize("verb", ["reversal", "abort", "refund"])
def test_what_is_no_payment_cannot_be_undone(box: RunningBox, till: Till, verb: str) -> None:
    key, refund = new_key(), new_key()
    till.ask("payment", CASH, key)
    till.ask("refund", {"of": key}, refund)
    size = box.log_size()
    reply = till.ask(verb, {"of": refund})
    assert (reply.status, reply.code, box.log_size()) == (404, "payment_unknown", size)


def test_abort_stops_what_is_not_approved_and_nothing_else(box: RunningBox, till: Till) -> None:
    unseen, approved = new_key(), new_key()
    assert till.ask("abort", {"of": unseen}).body["state"] == "cancelled"
    assert till.ask("payment", CASH, unseen).code == "payment_cancelled"
    till.ask("payment", CASH, approved)
    refused = till.ask("abort", {"of": approved})
    assert (refused.status, refused.code) == (409, "payment_complete")


def test_reversal_of_an_open_payment_runs_after_its_outcome(box: RunningBox, till: Till) -> None:
    assert box.twin is not None
    key = new_key()
    box.twin.fault("hold", path="/v1/payment_intents")
    try:
        assert till.ask("payment", CARD, key).status == 202
        wanted = till.ask("reversal", {"of": key})
        assert (wanted.status, wanted.body["state"]) == (202, "being_checked")
    finally:
        box.twin.clear()
    final = till.until_final(key)
    for _ in range(3):  # approved for a moment, then being checked again, then reversed
        if final.body["state"] == "reversed":
            break
        with till.events(after=final.body["seq"]) as stream:
            read_event(stream)
        final = till.until_final(key)
    assert final.body["state"] == "reversed"
    assert box.twin.charges()[-1]["refunded"] == 990


def test_batch_answers_each_sale_in_order_under_one_receipt(box: RunningBox, till: Till) -> None:
    sent_before, twice = new_key(), new_key()
    till.ask("payment", CASH, sent_before)
    items: list[dict[str, Any]] = [
        {"key": new_key(), "payment": FULL_SALE},
        {"key": sent_before, "payment": CASH},
        {"key": twice, "payment": CASH},
        {"key": twice, "payment": CASH},
        {"key": twice, "payment": CASH | {"reference": "another"}},
        {"key": new_key(), "payment": CARD},
        {"key": new_key(), "payment": CASH | {"amount_minor": 1}},
        {"key": new_key(now_ms() - 91 * DAY_MS), "payment": CASH},
        {"key": new_key(), "payment": CASH | {"sold_at_ms": now_ms() - DAY_MS}},
    ]
    key = new_key()
    reply = till.ask("batch", {"items": items}, key)
    assert reply.status == 200
    results = reply.body["results"]
    assert [result["key"] for result in results] == [item["key"] for item in items]
    assert [result.get("code", result["state"]) for result in results] == [
        "approved",
        "approved",
        "approved",
        "approved",
        "key_reused",
        "batch_takes_cash",
        "tenders_do_not_add_up",
        "key_too_old",
        "approved",
    ]
    assert results[2]["seq"] == results[3]["seq"]
    proven = {entry.seq for entry in verified(box, reply).entries}
    assert proven == {result["seq"] for result in results if result["state"] == "approved"}
    size = box.log_size()
    assert till.ask("batch", {"items": items}, key, encoding=Encoding.JWS).body["results"] == results
    assert box.log_size() == size


def test_retry_after_a_restart_is_the_same_sale(tmp_path: Path) -> None:
    with running_box(tmp_path) as box:
        till = paired_till(box, tmp_path, "till-1")
        key = new_key()
        raw = till.signed(till.claims("payment", CASH, key), Encoding.COSE)
        first = till.post("/v1/payment", raw, Encoding.COSE)
        box.kill()
        box.start()
        size = box.log_size()
        again = till.post("/v1/payment", raw, Encoding.COSE)
        assert (again.status, again.body["seq"], box.log_size()) == (200, first.body["seq"], size)
        assert till.ask("payment", CASH | {"reference": "x"}, key).code == "key_reused"
        assert verified(box, again).size > verified(box, first).size


def test_receipt_is_pending_while_signing_is_down_and_fetched_later(tmp_path: Path) -> None:
    with running_box(tmp_path) as box:
        till = paired_till(box, tmp_path, "till-1")
        assert till.ask("payment", CASH).body["state"] == "approved"
        tokens = box.box.token / "store"
        tokens.rename(box.box.token / "away")
        key = new_key()
        reply = till.ask("payment", CASH, key)
        assert (reply.status, reply.body["state"], reply.body.get("pending")) == (200, "approved", True)
        assert "receipt" not in reply.body
        (box.box.token / "away").rename(tokens)
        told = till.ask("status", {"of": key})
        for _ in range(30):  # each waits a second for the signature
            if "receipt" in told.body:
                break
            told = till.ask("status", {"of": key})
        assert verified(box, told).entries[0].seq == reply.body["seq"]


def test_new_sales_wait_when_too_many_entries_are_unsigned_and_go_on_by_themselves(tmp_path: Path) -> None:
    with running_box(tmp_path, settings="\n[limits]\nunsigned_entries_max = 2\nbatch_sales_max = 2\n") as box:
        till = paired_till(box, tmp_path, "till-1")
        sold = new_key()
        till.ask("payment", CASH, sold)
        three = {"items": [{"key": new_key(), "payment": CASH} for _ in range(3)]}
        assert till.ask("batch", three).code == "body_invalid", "the shop's own bound of a batch holds"
        store = box.box.token / "store"
        store.rename(store.with_name("away"))
        for _ in range(3):
            till.ask("payment", CASH)
        size = box.log_size()
        refused = till.ask("payment", CASH)
        assert (refused.status, refused.code, box.log_size()) == (503, "signing_down", size)
        assert till.ask("payment", CASH, sold).body["state"] == "approved", "what was sold is still told"
        assert till.ask("refund", {"of": sold}).body["state"] == "refunded", "outcomes are always recorded"
        store.with_name("away").rename(store)
        reply = till.ask("payment", CASH)
        for _ in range(60):  # each asks for a receipt and waits a second for it
            if reply.status == 200:
                break
            till.ask("status", {"of": sold})
            reply = till.ask("payment", CASH)
        assert reply.status == 200

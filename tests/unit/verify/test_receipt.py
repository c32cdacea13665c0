"""A stranger learns what a receipt proves, or precisely why it proves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.crypto import cbor, cose, signature, signing_key
from appliance.crypto.owner import OwnerKey
from appliance.ledger.receipt import HeadSignature, ReceiptBundle, head_protected, head_to_be_signed
from appliance.ledger.trust import encode_trust
from provisioning.verify.receipt_check import check_receipt
from provisioning.verify.report import Report, to_json
from tests.fakes.log import CASHIER, shop_log
from tests.unit.ledger.shop import genesis, owner


def failed_step(report: Report) -> tuple[str, str | None]:
    """Name of the last step, and the code; every step before it must be right."""
    assert not report.ok
    assert [step.ok for step in report.steps] == [True] * (len(report.steps) - 1) + [False]
    return report.steps[-1].name, report.code


def changed_file(**members: object) -> bytes:
    """The cash sale's receipt with other members."""
    read = cbor.decode(shop_log().sale, size_max=len(shop_log().sale))
    assert isinstance(read, dict)
    return cbor.encode({str(name): members.get(str(name), value) for name, value in read.items()})


def receipts_of(file: bytes) -> list[bytes]:
    read = cbor.decode(file, size_max=len(file))
    assert isinstance(read, dict)
    return cast(list[bytes], read["receipts"])


def sale_bundle() -> ReceiptBundle:
    return ReceiptBundle(head=shop_log().whole.head, entries=(shop_log().whole.entries[4],))


def test_a_receipt_says_what_was_sold() -> None:
    report = check_receipt(shop_log().sale, shop_log().trust)
    assert report.ok
    assert [step.name for step in report.steps] == [
        "trust file",
        "owner",
        "file",
        "entries",
        "path",
        "log",
        "classical signature",
        "post-quantum signature",
        "disclosures",
        "meaning",
    ]
    (said,) = report.sentences
    assert "sale of 12.50 EUR, cash" in said
    assert "terminal till-1" in said
    assert report.entries[0]["kind"] == "sale"


def test_a_card_receipt_says_approved_and_binds_outcome_to_intent() -> None:
    report = check_receipt(shop_log().card, shop_log().trust)
    assert report.ok
    assert "no approval" in report.sentences[0]
    assert "approved" in report.sentences[1]
    both = (
        shop_log().whole.entries[8],
        shop_log().whole.entries[7],
    )  # the intent of one payment, the outcome of another
    crossed = ReceiptBundle(head=shop_log().whole.head, entries=both).encode()
    assert failed_step(check_receipt(crossed, shop_log().trust)) == ("meaning", "outcome_of_another_intent")


def test_every_kind_of_entry_has_its_sentence() -> None:
    report = check_receipt(shop_log().whole.encode(), shop_log().trust)
    assert report.ok
    assert len({said.split(": ", 1)[1] for said in report.sentences}) == len(shop_log().whole.entries)
    assert not any("does not know" in said for said in report.sentences)


def test_a_changed_entry_does_not_fit_the_signature() -> None:
    entry = shop_log().whole.entries[4].entry
    changed = changed_file(entries=[entry.replace(b"receipt-1", b"receipt-9")])
    report = check_receipt(changed, shop_log().trust)
    assert failed_step(report) == ("classical signature", "classical_receipt_wrong")
    assert "changed" in report.hint


def test_a_receipt_by_another_key_is_told_from_a_changed_one() -> None:
    head = shop_log().whole.head
    stranger = signing_key.generate(cose.ED25519)
    protected = head_protected(algorithm=cose.ED25519, key_id=stranger.key_id, log_id=head.log_id, size=head.size)
    forged = HeadSignature(protected=protected, signature=stranger.sign(head_to_be_signed(protected, head.root)))
    report = check_receipt(replace(sale_bundle(), head=replace(head, classical=forged)).encode(), shop_log().trust)
    assert failed_step(report) == ("classical signature", "classical_receipt_missing")
    assert stranger.key_id.hex()[:16] in report.hint


def test_a_missing_post_quantum_signature_is_named() -> None:
    report = check_receipt(changed_file(receipts=receipts_of(shop_log().sale)[:1]), shop_log().trust)
    assert failed_step(report) == ("post-quantum signature", "post_quantum_receipt_missing")
    assert "Ed25519" in report.hint


def test_another_entrys_proof_is_refused() -> None:
    other = replace(shop_log().whole.entries[5], entry=shop_log().whole.entries[4].entry)
    report = check_receipt(ReceiptBundle(head=shop_log().whole.head, entries=(other,)).encode(), shop_log().trust)
    assert failed_step(report) == ("path", "receipt_index_mismatch")


def test_another_logs_receipt_is_refused_and_the_known_logs_are_named() -> None:
    other_log = encode_trust(owner().public, [genesis(2)])
    report = check_receipt(shop_log().sale, other_log)
    assert failed_step(report) == ("log", "receipt_log_unknown")
    assert "shop.example/SN-1/2" in report.hint


def test_a_foreign_owner_is_refused_before_the_receipt_is_read() -> None:
    foreign = encode_trust(OwnerKey.generate().public, [genesis()])
    report = check_receipt(shop_log().sale, foreign)
    assert failed_step(report) == ("owner", "classical_signature_missing")
    assert "another owner" in report.hint


def test_a_disclosed_value_is_shown_under_its_own_name_only() -> None:
    assert check_receipt(shop_log().disclosed, shop_log().trust).ok
    renamed = shop_log().disclosed.replace(b"\x67cashier\x50", b"\x67cashies\x50")
    assert renamed != shop_log().disclosed
    assert failed_step(check_receipt(renamed, shop_log().trust)) == ("disclosures", "receipt_disclosure_wrong")
    other_value = shop_log().disclosed.replace(CASHIER, CASHIER[::-1])
    assert failed_step(check_receipt(other_value, shop_log().trust)) == ("disclosures", "receipt_disclosure_wrong")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_every_flipped_bit_fails_cleanly(data: st.DataObject) -> None:
    file = bytearray(shop_log().disclosed)
    file[data.draw(st.integers(0, len(file) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    report = check_receipt(bytes(file), shop_log().trust)
    assert not report.ok
    assert report.hint
    assert msgspec.json.decode(to_json(report))["ok"] is False


@settings(max_examples=100, deadline=None)
@given(file=st.one_of(st.binary(max_size=200), st.integers(0, 5739).map(lambda end: shop_log().disclosed[:end])))
def test_any_other_bytes_fail_cleanly(file: bytes) -> None:
    assert not check_receipt(file, shop_log().trust).ok


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_trust_file_never_ends_in_a_traceback(data: st.DataObject) -> None:
    trust = bytearray(shop_log().trust)
    trust[data.draw(st.integers(0, len(trust) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    report = check_receipt(shop_log().sale, bytes(trust))
    assert report.ok or report.hint  # a changed blank changes nothing


def test_a_second_opinion_that_differs_fails_the_receipt() -> None:
    assert check_receipt(shop_log().sale, shop_log().trust, signature.verify).steps[-2].name == "second opinion"
    report = check_receipt(shop_log().sale, shop_log().trust, lambda *_: False)
    assert failed_step(report) == ("second opinion", "second_opinion_differs")


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\rb", "\u202egnp.exe", "[bold]x[/]"])
def test_text_of_strangers_cannot_steer_a_screen(text: str) -> None:
    from provisioning.verify.wording import printable

    assert printable(text).isprintable()

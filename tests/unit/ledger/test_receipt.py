"""Receipts: the frozen vector verifies, and each way to cheat has its name."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import pytest

from appliance.crypto import cbor
from appliance.crypto.hybrid import PinnedKey
from appliance.ledger.checkpoint import verify_checkpoint
from appliance.ledger.genesis import LogId
from appliance.ledger.receipt import VerifiedReceipt, verify_receipt
from appliance.ledger.trust import Trust, load_trust
from appliance.model.errors import Rejected

VECTORS = Path(__file__).parents[2] / "vectors"
RECEIPT_TAG_BYTES = 1


class Vector(TypedDict):
    trust: dict[str, Any]
    receipt: str
    log_id: str
    size: int
    root: str
    seqs: list[int]


@cache
def vector() -> Vector:
    found: Vector = json.loads((VECTORS / "receipt.json").read_text())
    return found


@cache
def trust() -> Trust:
    return load_trust(json.dumps(vector()["trust"]).encode())


def verified(file: bytes) -> VerifiedReceipt:
    return verify_receipt(file, trust().keys)


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    """The vector's file, taken apart, changed and encoded again."""
    file: Any = cbor.decode(bytes.fromhex(vector()["receipt"]), size_max=1 << 20)
    change(file)
    return cbor.encode(file)


def edit_receipt(at: int, change: Callable[[list[Any], dict[Any, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Change one COSE receipt: its four members and its decoded protected header."""

    def apply(file: dict[str, Any]) -> None:
        message: Any = cbor.decode(file["receipts"][at][RECEIPT_TAG_BYTES:], size_max=1 << 20)
        protected: Any = cbor.decode(message[0], size_max=1 << 20)
        change(message, protected)
        message[0] = cbor.encode(protected)
        file["receipts"][at] = b"\xd2" + cbor.encode(message)

    return apply


def edit_proof(change: Callable[[list[Any]], None]) -> Callable[[dict[str, Any]], None]:
    def apply(message: list[Any], _: dict[Any, Any]) -> None:
        proof: Any = cbor.decode(message[1][396][-1][0], size_max=1 << 20)
        change(proof)
        message[1][396][-1][0] = cbor.encode(proof)

    return edit_receipt(0, apply)


def test_the_vector_verifies_and_says_what_it_proves() -> None:
    receipt = verified(bytes.fromhex(vector()["receipt"]))
    assert receipt.log_id.hex() == vector()["log_id"]
    assert (receipt.size, receipt.root.hex()) == (vector()["size"], vector()["root"])
    assert [entry.seq for entry in receipt.entries] == vector()["seqs"]
    assert [(at, item.name, item.value) for at, item in receipt.disclosures] == [(0, "note", b"two coffees")]


def change_entry(file: dict[str, Any]) -> None:
    file["entries"][0] = file["entries"][0].replace(b"terminal:1", b"terminal:2")


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("receipt_proof_wrong", change_entry),
        ("receipt_entry_malformed", lambda f: f["entries"].__setitem__(0, b"\x88")),
        ("post_quantum_receipt_missing", lambda f: f["receipts"].pop(1)),
        ("classical_receipt_missing", lambda f: f["receipts"].pop(0)),
        ("classical_receipt_repeated", lambda f: f["receipts"].__setitem__(1, f["receipts"][0])),
        ("receipt_malformed", lambda f: f["entries"].pop()),
        ("receipt_malformed", lambda f: f.__setitem__("version", 2)),
        ("receipt_malformed", lambda f: f.__setitem__("extra", 0)),
        ("receipt_disclosure_wrong", lambda f: f["disclosures"][0].__setitem__(3, b"two beers")),
        ("receipt_malformed", lambda f: f["disclosures"][0].__setitem__(0, 9)),
        ("receipt_log_mismatch", edit_receipt(0, lambda _, p: p.__setitem__(-70101, bytes(32)))),
        ("receipt_size_mismatch", edit_receipt(0, lambda _, p: p.__setitem__(-70102, p[-70102] + 1))),
        ("receipt_malformed", edit_receipt(0, lambda _, p: p.pop(-70102))),
        ("receipt_malformed", edit_receipt(0, lambda _, p: p.__setitem__(395, 2))),
        ("receipt_malformed", edit_receipt(0, lambda m, _: m.__setitem__(2, b"root"))),
        ("classical_receipt_wrong", edit_receipt(0, lambda m, _: m.__setitem__(3, bytes(64)))),
        ("post_quantum_receipt_wrong", edit_receipt(1, lambda m, _: m.__setitem__(3, bytes(4627)))),
        ("classical_receipt_wrong", edit_receipt(0, lambda _, p: p.__setitem__(1, -9))),
        ("receipt_index_mismatch", edit_proof(lambda p: p.__setitem__(1, p[1] + 1))),
        ("receipt_size_mismatch", edit_proof(lambda p: p.__setitem__(0, p[0] + 1))),
        ("receipt_proof_wrong", edit_proof(lambda p: p[2].pop())),
        ("receipt_proof_wrong", edit_proof(lambda p: p[2].__setitem__(0, bytes(32)))),
    ],
)
def test_a_changed_receipt_is_refused_by_name(code: str, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(Rejected) as caught:
        verified(changed(change))
    assert caught.value.code == code


def test_a_receipt_of_an_unknown_log_is_refused() -> None:
    with pytest.raises(Rejected, match="receipt_log_unknown"):
        verify_receipt(bytes.fromhex(vector()["receipt"]), {LogId(bytes(32)): next(iter(trust().keys.values()))})


@pytest.mark.parametrize("field", ["statement", "owner_signature"])
def test_trust_with_a_log_that_the_owner_did_not_sign_is_refused(field: str) -> None:
    file = json.loads(json.dumps(vector()["trust"]))
    raw = bytearray(base64.b64decode(file["logs"][0][field]))
    raw[-1] ^= 1
    file["logs"][0][field] = base64.b64encode(raw).decode()
    with pytest.raises(Rejected):
        load_trust(json.dumps(file).encode())


def test_trust_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(Rejected, match="trust_malformed"):
        load_trust(json.dumps({**vector()["trust"], "more": 1}).encode())


def test_the_checkpoint_vector_verifies() -> None:
    found = json.loads((VECTORS / "checkpoint.json").read_text())
    checkpoint = verify_checkpoint(
        found["note"].encode(),
        origin=found["origin"],
        note_key=bytes.fromhex(found["note_key"]),
        post_quantum=PinnedKey(algorithm=-50, public_key=bytes.fromhex(found["post_quantum_key"])),
    )
    assert (checkpoint.size, checkpoint.root.hex()) == (found["size"], found["root"])

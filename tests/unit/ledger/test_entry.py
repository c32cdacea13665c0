"""Entry version 1: the vectors, the limits, and every way to be almost right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ledger.entry import GENESIS_PREV, INTEGER_MAX, decode, encode_stem, entry_hash, splice
from appliance.ledger.merkle import leaf_hash
from appliance.model.errors import Bug, Corrupt

VECTORS = Path(__file__).parents[2] / "vectors" / "entry.json"


class Vector(TypedDict):
    seq: int
    time_ms: int
    kind: str
    actor: str
    body: str
    salt: str
    prev: str
    entry: str
    entry_hash: str
    leaf_hash: str


class Broken(TypedDict):
    why: str
    entry: str


class Vectors(TypedDict):
    good: list[Vector]
    refused: list[Broken]


def vectors() -> Vectors:
    found: Vectors = json.loads(VECTORS.read_text())
    return found


def test_good_vectors_encode_and_decode_to_the_frozen_bytes() -> None:
    for vector in vectors()["good"]:
        stem = encode_stem(
            time_ms=vector["time_ms"],
            kind=vector["kind"],
            actor=vector["actor"],
            body=bytes.fromhex(vector["body"]),
            salt=bytes.fromhex(vector["salt"]),
        )
        encoded = splice(vector["seq"], stem, bytes.fromhex(vector["prev"]))
        assert encoded.hex() == vector["entry"]
        assert entry_hash(encoded).hex() == vector["entry_hash"]
        assert leaf_hash(encoded).hex() == vector["leaf_hash"]
        entry = decode(encoded)
        assert (entry.seq, entry.time_ms, entry.kind, entry.actor) == (
            vector["seq"],
            vector["time_ms"],
            vector["kind"],
            vector["actor"],
        )
        assert entry.prev.hex() == vector["prev"]


def test_refused_vectors_are_refused() -> None:
    for vector in vectors()["refused"]:
        with pytest.raises(Corrupt, match="entry_malformed"):
            decode(bytes.fromhex(vector["entry"]))


@given(
    seq=st.integers(0, INTEGER_MAX),
    time_ms=st.integers(0, INTEGER_MAX),
    kind=st.from_regex(r"\A[a-z][a-z0-9_.-]{0,63}\Z"),
    actor=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=30),
    body=st.binary(max_size=300),
    cut=st.integers(0, 40),
)
def test_every_entry_is_read_back_and_no_prefix_is(
    seq: int, time_ms: int, kind: str, actor: str, body: bytes, cut: int
) -> None:
    stem = encode_stem(time_ms=time_ms, kind=kind, actor=actor, body=b"\xa1" + body, salt=bytes(16))
    encoded = splice(seq, stem, GENESIS_PREV)
    entry = decode(encoded)
    assert (entry.seq, entry.time_ms, entry.kind, entry.actor, entry.body) == (
        seq,
        time_ms,
        kind,
        actor,
        b"\xa1" + body,
    )
    with pytest.raises(Corrupt):
        decode(encoded[: -1 - cut])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time_ms", -1),
        ("time_ms", 2**63),
        ("kind", ""),
        ("kind", "Sale"),
        ("kind", "sale\n"),
        ("kind", "s" * 65),
        ("actor", ""),
        ("actor", "a\nb"),
        ("actor", "ä" * 65),
        ("body", b""),
        ("body", b"\x80"),
        ("body", b"\xa1" + bytes(65_536)),
        ("salt", bytes(15)),
    ],
)
def test_a_stem_that_breaks_a_rule_is_never_encoded(field: str, value: object) -> None:
    good: dict[str, object] = {"time_ms": 1, "kind": "sale", "actor": "box", "body": b"\xa0", "salt": bytes(16)}
    with pytest.raises(Bug):
        encode_stem(**{**good, field: value})  # type: ignore[arg-type]  # one field is wrong on purpose

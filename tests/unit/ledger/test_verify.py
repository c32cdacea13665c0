"""The verifier names the first bad entry, and its short cut accepts nothing that the reader would refuse."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.ledger import verify
from appliance.ledger.entry import GENESIS_PREV, EntryHash, decode, encode_stem, entry_hash, splice
from appliance.ledger.genesis import KIND
from appliance.ledger.verify import BadEntry, verify_log
from appliance.model.errors import Corrupt
from tests.unit.ledger.shop import genesis, owner

NOW_MS = 1_790_000_000_000


def log_of(count: int) -> list[bytes]:
    bodies = [(KIND, genesis().encode_body())] + [("sale", b"\xa1\x63key\x58\x20" + bytes(32))] * (count - 1)
    entries: list[bytes] = []
    prev = GENESIS_PREV
    for seq, (kind, body) in enumerate(bodies):
        stem = encode_stem(time_ms=NOW_MS, kind=kind, actor="box", body=body, salt=bytes(16))
        entries.append(splice(seq, stem, prev))
        prev = entry_hash(entries[-1])
    return entries


def first_bad(entries: Sequence[bytes]) -> tuple[int, str]:
    with pytest.raises(BadEntry) as caught:
        verify_log(entries, owner=owner().public)
    return caught.value.seq, caught.value.code


def test_a_whole_log_verifies_under_its_owner() -> None:
    verified = verify_log(log_of(600), owner=owner().public, check_bodies=True)
    assert (verified.size, verified.log_id) == (600, genesis().log_id)


def test_a_changed_byte_is_found_in_its_entry_when_the_entries_behind_vouch_for_each_other() -> None:
    entries = log_of(10)
    entries[4] = entries[4].replace(b"cbox", b"cbux")
    assert first_bad(entries) == (4, "entry_changed")
    assert first_bad(entries[:6]) == (5, "chain_broken")


def test_a_changed_link_is_found_in_the_entry_that_holds_it() -> None:
    entries = log_of(10)
    entries[4] = entries[4][:-1] + bytes([entries[4][-1] ^ 1])
    assert first_bad(entries) == (4, "chain_broken")


def test_a_missing_entry_is_named() -> None:
    entries = log_of(10)
    del entries[7]
    assert first_bad(entries) == (7, "entry_out_of_order")


def test_a_genesis_that_the_owner_did_not_sign_is_refused() -> None:
    body = bytearray(genesis().encode_body())
    body[-1] ^= 1
    stem = encode_stem(time_ms=NOW_MS, kind=KIND, actor="box", body=bytes(body), salt=bytes(16))
    assert first_bad([splice(0, stem, GENESIS_PREV)]) == (0, "genesis_wrong")
    assert first_bad([log_of(2)[1]]) == (0, "entry_out_of_order")


def test_a_stored_tile_that_differs_is_found() -> None:
    with pytest.raises(BadEntry, match="tile_mismatch"):
        verify_log(log_of(300), owner=None, stored_tile=lambda _level, _number: bytes(8192))


PLAIN = splice(
    300,
    encode_stem(time_ms=NOW_MS, kind="sale", actor="terminal:1", body=b"\xa1" + bytes(40), salt=bytes(16)),
    EntryHash(b"p" * 32),
)


@settings(max_examples=400)
@given(
    at=st.integers(0, len(PLAIN) - 1),
    new=st.binary(max_size=3),
    drop=st.integers(0, 3),
)
@example(at=0, new=b"", drop=0)
def test_the_short_cut_accepts_nothing_that_the_reader_refuses(at: int, new: bytes, drop: int) -> None:
    changed = PLAIN[:at] + new + PLAIN[at + drop :]
    if verify._is_plain_next(changed, 300, b"p" * 32):
        entry = decode(changed)
        assert (entry.seq, entry.prev) == (300, b"p" * 32)


@settings(max_examples=400)
@given(
    time_ms=st.integers(0, 2**63 - 1),
    kind=st.from_regex(r"\A[a-z][a-z0-9_.-]{0,40}\Z"),
    actor=st.text(st.characters(categories=["L"]), min_size=1, max_size=40),
    body=st.binary(max_size=400),
)
def test_every_encoded_entry_is_next_by_either_way(time_ms: int, kind: str, actor: str, body: bytes) -> None:
    stem = encode_stem(time_ms=time_ms, kind=kind, actor=actor, body=b"\xa1" + body, salt=bytes(16))
    assert verify.is_next(splice(70_000, stem, b"p" * 32), 70_000, b"p" * 32)


def test_the_plain_entry_takes_the_short_cut() -> None:
    assert verify._is_plain_next(PLAIN, 300, b"p" * 32)
    with pytest.raises(Corrupt):
        decode(PLAIN + b"\x00")

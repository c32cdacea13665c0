"""Tile paths and tlog-proofs against the words of the C2SP pages, and their refusals."""

from __future__ import annotations

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.crypto.hybrid import PinnedKey
from appliance.ledger.checkpoint import Checkpoint, sign_checkpoint
from appliance.ledger.entry import ENTRY_BYTES_MAX, ENVELOPE_BYTES_MAX, GENESIS_PREV, encode_stem, splice
from appliance.ledger.merkle import Frontier, Tile, Tree, leaf_hash
from appliance.ledger.tlog import (
    BUNDLED_ENTRY_BYTES_MAX,
    TilePath,
    TlogProof,
    encode_bundle,
    read_proof,
    read_tile_path,
    tiles_of,
    verify_proof,
)
from appliance.model.errors import Rejected
from tests.unit.ledger.shop import signers

ORIGIN = "shop.example/SN-1/1"


class NoTiles:
    def node(self, level: int, index: int) -> bytes:
        raise AssertionError("five leaves fill no tile")


def proof_of(leaves: list[bytes], index: int, extra: bytes = b"") -> TlogProof:
    frontier, full = Frontier(), list[Tile]()
    frontier.extend(leaves, full)
    checkpoint = Checkpoint(origin=ORIGIN, size=len(leaves), root=frontier.root())
    note = asyncio.run(
        sign_checkpoint(checkpoint, note=signers().classical, post_quantum=signers().post_quantum),
    )
    path = Tree(frontier, NoTiles()).inclusion_proof(index, len(leaves))
    return TlogProof(index=index, path=path, checkpoint=note, extra=extra)


LEAVES = [leaf_hash(bytes([at])) for at in range(5)]


def verify(proof: TlogProof, leaf: bytes, origin: str = ORIGIN) -> Checkpoint:
    keys = signers()
    return verify_proof(
        proof,
        leaf,
        origin=origin,
        note_key=keys.classical.public_key,
        post_quantum=PinnedKey(algorithm=keys.post_quantum.algorithm, public_key=keys.post_quantum.public_key),
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (TilePath(level=0, number=0), "0/000"),
        (TilePath(level=0, number=1234067), "0/x001/x234/067"),
        (TilePath(level=63, number=999, width=255), "63/999.p/255"),
        (TilePath(level=None, number=1000, width=1), "entries/x001/000.p/1"),
        (TilePath(level=2, number=10**9), "2/x001/x000/x000/000"),
    ],
)
def test_path_is_the_one_of_the_specification(path: TilePath, text: str) -> None:
    assert str(path) == text
    assert read_tile_path(text) == path


@given(
    level=st.none() | st.integers(0, 63),
    number=st.integers(0, 10**18),
    width=st.integers(1, 256),
)
def test_every_resource_has_one_name(level: int | None, number: int, width: int) -> None:
    path = TilePath(level=level, number=number, width=width)
    assert read_tile_path(str(path)) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0/",
        "0/0",
        "0/0000",
        "00/000",
        "64/000",
        "-1/000",
        "0/x000/067",
        "0/001/067",
        "0/x001/x067",
        "0/X001/067",
        "0/067.p/0",
        "0/067.p/256",
        "0/067.p/01",
        "0/067.p/",
        "0/067.p",
        "0/067 ",
        "0/067\n",
        "0/x001/",
        "0/٠٠١",
        "entries",
        "Entries/000",
        "data/000",
        "0/" + "x001/" * 7 + "001",
        "0/../000",
    ],
)
def test_any_other_name_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="tile_path_malformed"):
        read_tile_path(text)


def test_right_edge_of_70000_entries_is_the_example_of_the_specification() -> None:
    assert [str(path) for path in tiles_of(70_000)] == ["0/273.p/112", "1/001.p/17", "2/000.p/1"]
    assert [str(path) for path in tiles_of(256)] == ["1/000.p/1"]
    assert tiles_of(0) == ()


@given(size=st.integers(0, 2**40))
def test_right_edge_exists_and_one_entry_more_does_not(size: int) -> None:
    for path in tiles_of(size):
        assert path.is_below(size)
        if path.width < 255:
            wider = TilePath(level=path.level, number=path.number, width=path.width + 1)
            assert not wider.is_below(size)


def test_bundle_is_entries_behind_their_lengths() -> None:
    assert encode_bundle([b"a", b"", b"xyz"]) == b"\x00\x01a\x00\x00\x00\x03xyz"


def test_largest_entry_below_four_billion_fits_a_bundle() -> None:
    room = (
        ENTRY_BYTES_MAX
        - ENVELOPE_BYTES_MAX
        - len(encode_stem(time_ms=2**40, kind="k", actor="a", body=b"\xa1" + bytes(65_000), salt=bytes(16)))
    )
    body = b"\xa1" + bytes(65_000 + room)
    stem = encode_stem(time_ms=2**40, kind="k", actor="a", body=body, salt=bytes(16))
    assert len(stem) + ENVELOPE_BYTES_MAX == ENTRY_BYTES_MAX
    assert len(splice(2**32 - 1, stem, GENESIS_PREV)) <= BUNDLED_ENTRY_BYTES_MAX


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("extra", [b"", b"the entry"])
def test_proof_file_proves_its_entry_and_no_other(index: int, extra: bytes) -> None:
    encoded = proof_of(LEAVES, index, extra).encode()
    proof = read_proof(encoded)
    assert (proof.index, proof.extra, proof.encode()) == (index, extra, encoded)
    assert verify(proof, LEAVES[index]).size == 5
    with pytest.raises(Rejected, match="tlog_proof_wrong"):
        verify(proof, LEAVES[(index + 1) % 5])


def test_proof_of_another_log_is_refused() -> None:
    with pytest.raises(Rejected, match="checkpoint_origin_unknown"):
        verify(proof_of(LEAVES, 1), LEAVES[1], origin="shop.example/SN-2/1")


def test_proof_file_reads_as_the_specification_words_it() -> None:
    lines = proof_of(LEAVES, 4, b"x").encode().decode().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra eA==", "index 4"]
    assert [len(base64.b64decode(line)) for line in lines[3:4]] == [32]
    assert lines[4] == ""
    assert lines[5:7] == [ORIGIN, "5"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1", b"@v2"),
        (b"index 3", b"index 03"),
        (b"index 3", b"index -3"),
        (b"index 3", b"Index 3"),
        (b"index 3\n", b""),
        (b"index 3\n", b"extra \nindex 3\n"),
        (b"index 3\n", b"extra eA\nindex 3\n"),
        (b"index 3\n", b"index 3\neA==\n"),
        (b"index 3\n", b"index 3\n" + (base64.b64encode(bytes(32)) + b"\n") * 65),
        (b"index 3\n", b"index 3\r\n"),
        (b"=\n\n", b"=\n"),
    ],
)
def test_proof_in_another_form_is_refused(old: bytes, new: bytes) -> None:
    encoded = proof_of(LEAVES, 3).encode()
    assert old in encoded
    with pytest.raises(Rejected, match=r"tlog_proof_malformed|checkpoint_malformed"):
        verify(read_proof(encoded.replace(old, new, 1)), LEAVES[3])


@given(st.binary(max_size=300))
def test_anything_else_is_refused_too(encoded: bytes) -> None:
    with pytest.raises(Rejected):
        read_proof(encoded)


@given(body=st.binary(min_size=1, max_size=40), salts=st.lists(st.binary(min_size=16, max_size=16), min_size=2))
def test_equal_entries_have_different_leaves_as_long_as_their_salts_differ(body: bytes, salts: list[bytes]) -> None:
    # All that an observer could guess is the same: seq, time, kind, actor, body and the entry before.
    leaves = {
        leaf_hash(
            splice(
                7, encode_stem(time_ms=1, kind="sale", actor="terminal:1", body=b"\xa1" + body, salt=salt), GENESIS_PREV
            )
        )
        for salt in salts
    }
    assert len(leaves) == len(set(salts))

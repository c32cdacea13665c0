"""CARv1: bytes as others write them; a changed block, header or length is refused."""

from __future__ import annotations

import pytest

from appliance.evidence import dag_cbor
from appliance.evidence.car import BLOCK_BYTES_MAX, car_of, dag_cbor_block, raw_block, read_car, write_car
from appliance.evidence.dag_cbor import Link
from appliance.model.errors import Rejected

LEAF = raw_block(b"leaf")
LARGE = raw_block(bytes(300))
ROOT = dag_cbor_block({"leaves": [Link(LEAF.cid), Link(LARGE.cid)]})
CAR = write_car(car_of(ROOT.cid, [ROOT, LEAF, LARGE, LEAF]))


def test_a_file_is_its_header_and_each_block_once_behind_its_length() -> None:
    header = dag_cbor.encode({"roots": [Link(ROOT.cid)], "version": 1})
    assert CAR.startswith(bytes((len(header),)) + header + bytes((36 + len(ROOT.content),)) + ROOT.cid)
    assert CAR.endswith(b"\xd0\x02" + LARGE.cid + LARGE.content)  # 336 in unsigned LEB128
    assert CAR.count(LEAF.content) == 1


def test_a_file_gives_its_blocks_back() -> None:
    read = read_car(CAR)
    assert read.root == ROOT.cid
    assert read.blocks == {block.cid: block.content for block in (ROOT, LEAF, LARGE)}


@pytest.mark.parametrize("at", range(0, len(CAR), 7))
def test_a_changed_byte_is_never_accepted(at: int) -> None:
    changed = bytearray(CAR)
    changed[at] ^= 0x01
    with pytest.raises(Rejected):
        read_car(bytes(changed))


@pytest.mark.parametrize("size", [*range(0, 60, 7), len(CAR) - 1, len(CAR) - 337])
def test_a_file_cut_short_is_refused_or_lacks_the_block(size: int) -> None:
    try:
        assert LARGE.cid not in read_car(CAR[:size]).blocks
    except Rejected as refusal:
        assert refusal.code in ("car_malformed", "dag_cbor_malformed")  # noqa: PT017 - a cut between blocks is whole


def test_a_file_without_its_root_is_refused() -> None:
    with pytest.raises(Rejected, match="the root"):
        read_car(write_car(car_of(ROOT.cid, [LEAF])))


@pytest.mark.parametrize(
    "header",
    [
        {"roots": [], "version": 1},
        {"roots": [Link(ROOT.cid)], "version": 2},
        {"roots": [Link(ROOT.cid), Link(LEAF.cid)], "version": 1},
        {"roots": [Link(ROOT.cid)], "version": 1, "more": 1},
        {"roots": [bytes(ROOT.cid)], "version": 1},
    ],
)
def test_another_header_is_refused(header: object) -> None:
    encoded = dag_cbor.encode(header)
    with pytest.raises(Rejected) as refusal:
        read_car(bytes((len(encoded),)) + encoded)
    assert refusal.value.code == "car_malformed"


def test_lengths_are_bounded_and_in_their_one_form() -> None:
    too_large = raw_block(bytes(BLOCK_BYTES_MAX + 1))
    with pytest.raises(Rejected, match="at most"):
        read_car(write_car(car_of(too_large.cid, [too_large])))
    with pytest.raises(Rejected) as refusal:
        read_car(b"\x80\x00")
    assert refusal.value.code == "car_malformed"
    with pytest.raises(Rejected):
        read_car(b"\xff" * 40)

"""Publications: one range is one file, entries open for the auditor alone, every other root is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.crypto import hpke
from appliance.evidence import dag_cbor, publication
from appliance.evidence.car import Car, dag_cbor_block, raw_block, read_car, write_car
from appliance.evidence.cid import dag_cbor_cid, raw_cid
from appliance.evidence.dag_cbor import Link
from appliance.evidence.publication import (
    CHUNK_BYTES_MAX,
    Evidence,
    make_publication,
    open_content_key,
    read_publication,
    seal_content_key,
)
from appliance.evidence.publication_root import Scope, TileAt, read_root
from appliance.model.errors import Rejected

SEED = bytes(range(32))
KEY = b"k" * 32
SCOPE = Scope(origin="shop.example/SN-1/1", first=256, end=259)
SEALING = seal_content_key(hpke.Recipient(hpke.public_key_of(SEED)), SCOPE, KEY)
ENTRIES = (b"one", b"", b"three")
TILES = {TileAt(level=0, number=1, width=3): b"h" * 96, TileAt(level=1, number=0, width=1): b"i" * 32}
PREVIOUS = dag_cbor_cid(b"\xa0")


def made(entries: tuple[bytes, ...] = ENTRIES, scope: Scope = SCOPE) -> Car:
    return make_publication(
        scope,
        evidence=Evidence(checkpoint=b"a note", size=300, consistency=(b"p" * 32,)),
        tiles=TILES,
        entries=entries,
        sealing=SEALING,
        content_key=KEY,
        previous=PREVIOUS,
    )


def test_the_same_range_under_the_same_key_is_the_same_file() -> None:
    assert made() == made()
    assert read_car(write_car(made())) == made()


def test_what_was_put_in_comes_out() -> None:
    read = read_publication(made())
    assert read.root.scope == SCOPE
    assert read.root.previous == PREVIOUS
    assert (read.checkpoint, read.root.size, read.root.consistency) == (b"a note", 300, (b"p" * 32,))
    assert read.tiles == TILES
    assert tuple(read.entries(open_content_key(read.root, SEED))) == ENTRIES


def test_nothing_of_an_entry_shows_without_the_key() -> None:
    car = made((b"turnover of the day", b"two", b"three"))
    assert b"turnover" not in write_car(car)
    read = read_publication(car)
    with pytest.raises(Rejected) as refusal:
        open_content_key(read.root, bytes(32))
    assert refusal.value.code == "seal_refused"
    with pytest.raises(Rejected) as refusal:
        tuple(read.entries(bytes(32)))
    assert refusal.value.code == "publication_not_ours"


def test_the_whole_history_is_not_pinned_with_the_newest() -> None:
    car = made()
    assert PREVIOUS not in read_root(car.blocks[car.root]).links()
    assert dag_cbor.encode(Link(PREVIOUS)) not in car.blocks[car.root]


@given(st.lists(st.integers(0, CHUNK_BYTES_MAX + 10), min_size=1, max_size=8))
def test_chunks_hold_every_entry_and_stay_bounded(sizes: list[int]) -> None:
    entries = tuple(bytes(size) for size in sizes)
    read = read_publication(made(entries, Scope(origin="a", first=0, end=len(entries))))
    assert tuple(read.entries(KEY)) == entries
    largest = publication.RECORD_LENGTH_BYTES + max(CHUNK_BYTES_MAX, *sizes) + 16
    assert all(len(chunk) <= largest for chunk in read.chunks.values())


def test_a_file_without_one_of_its_blocks_is_named_so() -> None:
    car = made()
    blocks = {cid: block for cid, block in car.blocks.items() if block != b"a note"}
    with pytest.raises(Rejected) as refusal:
        read_publication(Car(car.root, blocks))
    assert refusal.value.code == "publication_incomplete"


RAW = Link(raw_cid(b"x"))
CHANGES: dict[str, dict[str, object]] = {
    "another version": {"version": 2},
    "one key more": {"more": 1},
    "no entries": {"end": 256},
    "an end beyond the checkpoint": {"size": 258},
    "too many entries": {"end": 256 + 4097, "size": 9999},
    "a gap": {"entries": [[256, 1, RAW], [258, 1, RAW]]},
    "an overlap": {"entries": [[256, 2, RAW], [257, 2, RAW]]},
    "a chunk twice": {"entries": [[256, 3, RAW], [256, 3, RAW]]},
    "no chunk": {"entries": []},
    "a chunk without a link": {"entries": [[256, 3, bytes(RAW.cid)]]},
    "a chunk of links": {"entries": [[256, 3, Link(PREVIOUS)]]},
    "a tile twice": {"tiles": [[0, 1, 3, RAW], [0, 1, 3, RAW]]},
    "a tile too wide": {"tiles": [[0, 1, 257, RAW]]},
    "a tile of no width": {"tiles": [[0, 1, 0, RAW]]},
    "a short hash": {"consistency": [b"p"]},
    "a linked previous": {"previous": Link(PREVIOUS)},
    "a checkpoint of links": {"checkpoint": Link(PREVIOUS)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_another_root_is_refused(change: dict[str, object]) -> None:
    car = made()
    fields: Any = dag_cbor.decode(car.blocks[car.root], size_max=1 << 16)
    with pytest.raises(Rejected) as refusal:
        read_root(dag_cbor_block(fields | change).content)
    assert refusal.value.code == "publication_malformed"


def test_a_tile_of_another_size_than_its_width_is_refused() -> None:
    blocks = made().blocks
    fields: Any = dag_cbor.decode(blocks[made().root], size_max=1 << 16)
    short = raw_block(b"h" * 95)
    changed = dag_cbor_block(fields | {"tiles": [[0, 1, 3, Link(short.cid)]]})
    with pytest.raises(Rejected, match="32 bytes a hash"):
        read_publication(Car(changed.cid, blocks | {short.cid: short.content, changed.cid: changed.content}))

"""A forged bundle is refused, whichever part was changed, and no byte of one can be changed unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.crypto import signing_key
from appliance.evidence.bundle import HeadEvidence
from appliance.evidence.cid import dag_cbor_cid, raw_cid
from appliance.evidence.ots import Promised
from appliance.evidence.publication_root import ChunkAt, Sealing, TileAt
from appliance.ledger.checkpoint import sign_checkpoint
from appliance.ledger.evidence import verify_publication
from appliance.ledger.trust import load_trust
from appliance.model.errors import Rejected
from provisioning.verify.bundle_check import PARTS
from tests.fakes.log import shop_log
from tests.unit.ledger.shop import SeededSigner, genesis, signers
from tests.unit.verify.bundles import (
    address_signed,
    anchor,
    bundle,
    check,
    checkpoint,
    forged,
    note,
    published,
    root_of,
    whole_head,
    witness,
)


def _without_line(text: bytes, number: int) -> bytes:
    lines = text.splitlines(keepends=True)
    return b"".join(lines[:number] + lines[number + 1 :])


def _other_note() -> bytes:
    signer = SeededSigner(signing_key.ed25519_from_seed(bytes(31) + b"\x01"))
    other = replace(checkpoint(), root=bytes(32))
    return asyncio.run(sign_checkpoint(other, note=signer, post_quantum=signers().post_quantum))


def _foreign_note() -> bytes:
    signer = SeededSigner(signing_key.ed25519_from_seed(bytes(31) + b"\x01"))
    other = replace(checkpoint(), origin="shop.example/SN-9/1")
    return asyncio.run(sign_checkpoint(other, note=signer, post_quantum=signers().post_quantum))


FORGERIES: dict[str, tuple[Callable[[], HeadEvidence], str, str]] = {
    "another root": (lambda: replace(whole_head(), note=_other_note()), "checkpoint", "evidence_path_wrong"),
    "another log": (lambda: replace(whole_head(), note=_foreign_note()), "checkpoint", "checkpoint_origin_unknown"),
    "one signature gone": (
        lambda: replace(whole_head(), note=_without_line(note(), 5)),
        "checkpoint",
        "checkpoint_signature_missing",
    ),
    "another entry's path": (
        lambda: replace(whole_head(), paths=(shop_log().whole.entries[5].path,)),
        "checkpoint",
        "evidence_path_wrong",
    ),
    "no path": (lambda: replace(whole_head(), paths=()), "checkpoint", "evidence_paths_missing"),
    "witness of another head": (
        lambda: replace(whole_head(), cosignatures=witness().lines(replace(checkpoint(), root=bytes(32)).text())),
        "witnesses",
        "cosignature_wrong",
    ),
    "timestamp of another note": (
        lambda: replace(whole_head(), timestamp=anchor(b"other")[0]),
        "Bitcoin block",
        "timestamp_of_another_digest",
    ),
    "only a promise": (
        lambda: replace(whole_head(), timestamp=anchor(note(), Promised(uri="http://calendar.example"))[0]),
        "Bitcoin block",
        "timestamp_pending",
    ),
    "another block": (
        lambda: replace(whole_head(), headers=whole_head().headers[1:]),
        "Bitcoin block",
        "timestamp_block_mismatch",
    ),
    "a cut timestamp": (
        lambda: replace(whole_head(), timestamp=anchor(note())[0][:-1]),
        "Bitcoin block",
        "timestamp_malformed",
    ),
    "publication of another note": (
        lambda: replace(whole_head(), publication=published(root_of(b"other", checkpoint().size))),
        "publication",
        "evidence_publication_wrong",
    ),
    "another seal": (
        lambda: forged(sealing=Sealing(recipient=bytes(32), seal=b"Sealed")),
        "publication",
        "checkpoint_signature_wrong",
    ),
    "a seal of zeros": (
        lambda: forged(sealing=Sealing(recipient=bytes(32), seal=bytes(6))),
        "publication",
        "checkpoint_signature_wrong",
    ),
    "another recipient": (
        lambda: forged(sealing=Sealing(recipient=bytes(31) + b"\x01", seal=b"sealed")),
        "publication",
        "checkpoint_signature_wrong",
    ),
    "other sealed entries": (
        lambda: forged(chunks={ChunkAt(first=0, count=checkpoint().size): raw_cid(b"other")}),
        "publication",
        "checkpoint_signature_wrong",
    ),
    "another publication before it": (
        lambda: forged(previous=dag_cbor_cid(b"other")),
        "publication",
        "checkpoint_signature_wrong",
    ),
    "a root without tiles": (lambda: forged(tiles={}), "publication", "evidence_publication_wrong"),
    "a signed root without tiles": (
        lambda: replace(whole_head(), publication=published(root_of(note(), checkpoint().size, tiles={}), ())),
        "publication",
        "publication_tiles_wrong",
    ),
    "a signed root of other hashes": (
        lambda: replace(
            whole_head(),
            publication=published(
                root_of(note(), checkpoint().size, tiles={TileAt(level=0, number=0, width=15): raw_cid(bytes(480))}),
                (bytes(480),),
            ),
        ),
        "publication",
        "publication_not_in_log",
    ),
    "a signed root with a consistency proof that proves nothing": (
        lambda: replace(
            whole_head(), publication=published(root_of(note(), checkpoint().size, consistency=(bytes(32),)))
        ),
        "publication",
        "publication_not_in_log",
    ),
    "an address signed by one key": (
        lambda: replace(
            whole_head(),
            publication=replace(
                published(root_of(note(), checkpoint().size)),
                signatures=address_signed(root_of(note(), checkpoint().size)).splitlines(keepends=True)[0],
            ),
        ),
        "publication",
        "checkpoint_signature_missing",
    ),
    "an address signed by another's key": (
        lambda: replace(
            whole_head(),
            publication=replace(
                published(root_of(note(), checkpoint().size)),
                signatures=address_signed(
                    root_of(note(), checkpoint().size),
                    SeededSigner(signing_key.ml_dsa_87_from_seed(bytes(31) + b"\x09")),
                ),
            ),
        ),
        "publication",
        "checkpoint_signature_missing",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_part_is_refused_by_its_own_code(name: str) -> None:
    forge, step, code = FORGERIES[name]
    report = check(bundle(forge()))
    assert (report.ok, report.steps[-1].name, report.code) == (False, step, code)
    assert report.hint
    assert not report.entries
    assert not report.sentences


def _flip(file: bytes, at: int, bit: int) -> bytes:
    return file[:at] + bytes([file[at] ^ 1 << bit]) + file[at + 1 :]


def _places(file: bytes) -> list[int]:
    """Around each name of the format every byte, of the long values behind them every 97th: a check takes 40 ms."""
    names = (b"cosignatures", b"headers", b"note", b"paths", b"publication", b"signatures", b"tiles", b"timestamp")
    dense = {file.find(name) + offset for name in names for offset in range(0, len(name) + 8, 3)}
    return sorted(dense.union(range(0, len(file), 97)))


def test_no_changed_byte_passes_as_whole_evidence() -> None:
    """Every part and every kind of value; only a test network's last header could be made again by anybody."""
    file = bundle(whole_head())
    free = range(file.find(whole_head().headers[-1]), file.find(whole_head().headers[-1]) + 80)
    for at in _places(file):
        if at not in free:
            assert not check(_flip(file, at, at % 8), required=PARTS).ok, at


def test_no_changed_byte_of_a_publication_passes() -> None:
    """Every byte of the root block and of the tiles, every 17th of the signature lines, which are 6 kB."""
    head, keys = whole_head(), load_trust(shop_log().trust).keys[genesis().log_id]
    part = head.publication
    assert part is not None
    assert verify_publication(head, checkpoint(), keys=keys) is not None
    changed = [replace(part, root=_flip(part.root, at, at % 8)) for at in range(len(part.root))]
    changed += [replace(part, tiles=(_flip(part.tiles[0], at, at % 8),)) for at in range(len(part.tiles[0]))]
    lines = range(0, len(part.signatures), 17)
    changed += [replace(part, signatures=_flip(part.signatures, at, at % 8)) for at in lines]
    for other in changed:
        with pytest.raises(Rejected):
            verify_publication(replace(head, publication=other), checkpoint(), keys=keys)


@given(st.floats(0, 1, exclude_max=True))
@settings(max_examples=20, deadline=None)
def test_no_cut_file_passes(place: float) -> None:
    file = bundle(whole_head())
    assert not check(file[: int(place * len(file))], required=PARTS).ok

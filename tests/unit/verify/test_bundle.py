"""A judge gets a bundle: every part is checked, what is missing is named, and every forgery has its own code."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.crypto import signing_key
from appliance.evidence.block import MAINNET, REGTEST, decode_header
from appliance.evidence.bundle import EvidenceBundle, HeadEvidence, read_bundle
from appliance.evidence.cid import raw_cid
from appliance.evidence.cosignature import WitnessPolicy
from appliance.evidence.ots import SHA256, InBlock, Promised, Proof, append, timestamp_through
from appliance.evidence.ots_file import encode_proof
from appliance.evidence.publication_root import ChunkAt, Root, Scope, Sealing
from appliance.ledger.checkpoint import Checkpoint, sign_checkpoint
from appliance.ledger.evidence import Demand
from appliance.ledger.log_keys import Distrust
from appliance.ledger.receipt import ReceiptBundle
from appliance.ledger.succession import DISTRUST, distrust_statement
from appliance.ledger.trust import Evidence, encode_evidence
from appliance.ports.chain import BlockHash
from provisioning.verify.bundle_check import BLOCK, PARTS, Wanted, check_bundle, demand_of
from provisioning.verify.report import Report
from tests.fakes.log import shop_log
from tests.regtest import mined_header
from tests.unit.evidence.test_cosignature import Witness
from tests.unit.ledger.shop import SeededSigner, genesis, owner, signers

TIME_S = 1_790_000_000
NOW_MS = 1_000 * (TIME_S + 86_400)
STEPS = [append(b"salt"), SHA256]
HEIGHT = 812


SALE, CARD = (4,), (6, 7)


@cache
def witness() -> Witness:
    return Witness("w1.example")


def demand(needed: int = 1, **changes: Any) -> Demand:
    return replace(Demand(witnesses=WitnessPolicy(keys=witness().keys, needed=needed), network=REGTEST), **changes)


@cache
def checkpoint() -> Checkpoint:
    head = shop_log().whole.head
    return Checkpoint(origin=genesis().read().origin, size=head.size, root=head.root)


@cache
def note() -> bytes:
    signer = SeededSigner(signing_key.ed25519_from_seed(bytes(31) + b"\x01"))
    return asyncio.run(sign_checkpoint(checkpoint(), note=signer, post_quantum=signers().post_quantum))


def anchor(of: bytes, claim: InBlock | Promised | None = None) -> tuple[bytes, tuple[bytes, ...]]:
    """An `.ots` of `of` and six headers, the first of which commits to it."""
    digest = hashlib.sha256(of).digest()
    message = digest
    for step in STEPS:
        message = step.apply(message)
    headers = [mined_header(BlockHash(bytes(32)), message, TIME_S)]
    while len(headers) < 6:
        headers.append(mined_header(decode_header(headers[-1]).block_hash, bytes(32), TIME_S + 600 * len(headers)))
    proof = Proof(timestamp=timestamp_through(digest, STEPS, claim or InBlock(height=HEIGHT)))
    return encode_proof(proof), tuple(headers)


def published(of: bytes, size: int) -> bytes:
    scope = Scope(origin=checkpoint().origin, first=0, end=size)
    root = Root(
        scope=scope,
        size=size,
        checkpoint=raw_cid(of),
        consistency=(),
        sealing=Sealing(recipient=bytes(32), seal=b"sealed"),
        previous=None,
        tiles={},
        chunks={ChunkAt(first=0, count=size): raw_cid(b"encrypted")},
    )
    return root.block().content


@cache
def whole_head(seqs: tuple[int, ...] = SALE) -> HeadEvidence:
    timestamp, headers = anchor(note())
    return HeadEvidence(
        note=note(),
        paths=tuple(shop_log().whole.entries[seq].path for seq in seqs),
        cosignatures=witness().lines(checkpoint().text(), TIME_S - 60),
        timestamp=timestamp,
        headers=headers,
        publication=published(note(), checkpoint().size),
    )


def bundle(*heads: HeadEvidence, seqs: tuple[int, ...] = SALE) -> bytes:
    receipt = ReceiptBundle(
        head=shop_log().whole.head, entries=tuple(shop_log().whole.entries[seq] for seq in seqs)
    ).encode()
    return EvidenceBundle(receipt=receipt, heads=heads).encode()


def wanted(*required: str, **changes: Any) -> Wanted:
    return replace(Wanted(required=required, now_ms=NOW_MS), **changes)


def check(file: bytes, believed: Demand | None = None, required: Sequence[str] = ()) -> Report:
    return check_bundle(file, shop_log().trust, believed or demand(), wanted(*required))


@pytest.mark.parametrize("seqs", [SALE, CARD])
def test_a_whole_bundle_tells_its_story_in_order_of_time(seqs: tuple[int, ...]) -> None:
    report = check(bundle(whole_head(seqs), seqs=seqs), required=PARTS)
    assert report.ok, (report.code, report.steps[-1])
    assert report.absent == {}
    assert report.verdict == "is genuine"
    *recorded, signed, witnessed, fixed, published_line = report.sentences
    assert [line.startswith(f"entry {seq}, recorded at") for line, seq in zip(recorded, seqs, strict=True)]
    assert signed.startswith("signed by both keys")
    assert "w1.example saw the log of 15 entries" in witnessed
    assert f"fixed by block {HEIGHT}, with 5 blocks on top" in fixed
    assert published_line.startswith("to be read back as b")


def test_what_is_missing_is_named_and_can_be_demanded() -> None:
    bare = HeadEvidence(note=note(), paths=whole_head().paths)
    for file in (bundle(bare), bundle()):
        report = check(file)
        assert report.ok
        assert list(report.absent) == list(PARTS)
        assert report.verdict == "is genuine, without evidence by witnesses, Bitcoin block, publication"
        demanded = check(file, required=["Bitcoin block"])
        assert (demanded.ok, demanded.code, demanded.steps[-1].name) == (False, "evidence_missing", "Bitcoin block")


def test_a_timestamp_without_its_block_is_missing_work() -> None:
    report = check(bundle(replace(whole_head(), headers=())))
    assert report.ok
    assert list(report.absent) == ["Bitcoin block"]
    assert "no header of its block" in report.absent["Bitcoin block"]


def test_lines_of_strangers_and_half_a_witness_count_for_nothing() -> None:
    stranger = Witness("w9.example").lines(checkpoint().text())
    half = witness().lines(checkpoint().text()).splitlines(keepends=True)[0]
    for lines in (stranger, half):
        report = check(bundle(replace(whole_head(), cosignatures=lines)))
        assert report.ok
        assert list(report.absent) == ["witnesses"]


def test_a_trust_file_without_witnesses_believes_none() -> None:
    report = check(bundle(whole_head()), demand(witnesses=WitnessPolicy(keys=(), needed=0)))
    assert "names no witness" in report.absent["witnesses"]


def _with_headers(count: int) -> bytes:
    return bundle(replace(whole_head(), headers=whole_head().headers[:count]))


@pytest.mark.parametrize(("headers", "asked", "ok"), [(6, 6, True), (5, 6, False), (1, 6, False), (1, 1, True)])
def test_a_block_that_is_required_needs_as_many_confirmations_as_asked_for(headers: int, asked: int, ok: bool) -> None:
    report = check_bundle(_with_headers(headers), shop_log().trust, demand(), wanted(BLOCK, confirmations=asked))
    assert (report.ok, report.code) == (ok, None if ok else "block_unconfirmed")
    if not ok:
        assert f"saw {headers} confirmation" in report.steps[-1].detail
        assert report.hint


def test_how_many_confirmations_a_block_has_is_said_in_any_case() -> None:
    report = check(_with_headers(1))
    assert report.ok
    (step,) = [step for step in report.steps if step.name == BLOCK]
    assert "1 confirmation (the block and 0 on top)" in step.detail
    assert any("of 6: fewer are easier to forge" in text for _, text in report.caveats)


def test_blocks_that_anybody_can_make_are_told_as_such() -> None:
    report = check(bundle(whole_head()), required=PARTS)
    assert report.ok
    assert report.caveats == (
        (BLOCK, "regtest: anybody can make these blocks, so they prove that the machinery works, and no more"),
    )
    assert report.facts["caveats"] == [{"name": name, "detail": text} for name, text in report.caveats]


@pytest.mark.parametrize(
    ("ahead_s", "said"), [(0, None), (7_200, "up to two hours ahead"), (7_201, "the time is made up")]
)
def test_a_block_from_the_future_is_explained(ahead_s: int, said: str | None) -> None:
    now = wanted(now_ms=1_000 * (TIME_S - ahead_s))
    report = check_bundle(bundle(whole_head()), shop_log().trust, demand(), now)
    assert report.ok
    told = [text for _, text in report.caveats if "this computer's clock" in text]
    assert len(told) == (said is not None)
    assert all(said is not None and said in text for text in told)


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
        lambda: replace(whole_head(), publication=published(b"other", checkpoint().size)),
        "publication",
        "evidence_publication_wrong",
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


def test_headers_of_another_network_or_of_too_little_work_are_refused() -> None:
    assert check(bundle(whole_head()), demand(network=MAINNET)).code == "block_other_network"
    assert check(bundle(whole_head()), demand(work_min=1 << 40)).code == "block_work_low"


def test_a_bundle_with_a_forged_receipt_ends_at_the_receipt() -> None:
    read = read_bundle(bundle(whole_head()))
    file = replace(read, receipt=read.receipt[:-40] + bytes(40)).encode()
    report = check(file)
    assert not report.ok
    assert "checkpoint" not in [step.name for step in report.steps]


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_no_changed_or_cut_bytes_pass_as_the_same_evidence(place: float, change: int) -> None:
    file = bundle(whole_head())
    at = int(place * len(file))
    changed = file[:at] + (bytes([file[at] ^ change]) + file[at + 1 :] if change else b"")
    report = check(changed, required=PARTS)
    # Two parts are pointers, not proofs: another root block is another address, and on a chain without work the last
    # header can be made again.
    assert not report.ok or any(
        file.find(part) <= at < file.find(part) + len(part)
        for part in (whole_head().publication or b"", whole_head().headers[-1])
    )


def test_the_file_survives_the_round_trip_and_has_one_form() -> None:
    file = bundle(whole_head())
    assert read_bundle(file).encode() == file
    assert check(b"").code == "cbor_malformed"
    assert check(b"\xa0").code == "evidence_malformed"


def _distrusting(before_ms: int) -> bytes:
    """The trust file of an owner who distrusts the log's post-quantum key from the first entry on."""
    key_id = signers().post_quantum.key_id
    distrust = Distrust(log_id=genesis().log_id, key_id=key_id, size=2, before_ms=before_ms)
    return encode_evidence(
        owner().public, Evidence(logs=(genesis(),), distrusted=(owner().sign(DISTRUST, distrust_statement(distrust)),))
    )


def test_a_distrusted_key_counts_for_what_others_saw_before() -> None:
    seen_by_witness_ms = 1_000 * (TIME_S - 60)
    file = bundle(whole_head())
    assert check_bundle(file, _distrusting(seen_by_witness_ms + 1), demand(), wanted()).ok
    late = check_bundle(file, _distrusting(seen_by_witness_ms), demand(), wanted())
    assert (late.ok, late.code) == (False, "log_key_distrusted")
    alone = bundle(HeadEvidence(note=note(), paths=whole_head().paths))
    assert check_bundle(alone, _distrusting(seen_by_witness_ms + 1), demand(), wanted()).code == "log_key_distrusted"


def test_the_trust_file_names_witnesses_and_network_and_the_command_line_adds_to_them() -> None:
    known, other = witness(), Witness("w2.example")
    policy = WitnessPolicy(keys=known.keys, needed=1)
    trust_file = encode_evidence(owner().public, Evidence(logs=(genesis(),)), policy, REGTEST)
    named = demand_of(trust_file, [], None, None)
    assert named == Demand(witnesses=policy, network=REGTEST)
    assert check_bundle(bundle(whole_head()), trust_file, named, wanted(*PARTS)).ok
    more = demand_of(trust_file, [key.vkey for key in other.keys], None, "mainnet")
    assert (more.witnesses.names, more.witnesses.needed, more.network) == (("w1.example", "w2.example"), 2, MAINNET)
    assert demand_of(trust_file, [], 0, None).witnesses.needed == 0
    assert demand_of(b"no trust file", [], None, None).witnesses.names == ()

"""A judge gets a bundle: every part is checked, what is missing is named, and every forgery has its own code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.evidence.block import MAINNET, REGTEST
from appliance.evidence.bundle import HeadEvidence, read_bundle
from appliance.evidence.cosignature import WitnessPolicy
from appliance.ledger.evidence import Demand
from appliance.ledger.log_keys import Distrust
from appliance.ledger.succession import DISTRUST, distrust_statement
from appliance.ledger.trust import Evidence, encode_evidence
from provisioning.verify.bundle_check import BLOCK, PARTS, check_bundle, demand_of
from tests.fakes.log import shop_log
from tests.unit.evidence.test_cosignature import Witness
from tests.unit.ledger.shop import genesis, owner, signers
from tests.unit.verify.bundles import (
    CARD,
    HEIGHT,
    SALE,
    TIME_S,
    bundle,
    check,
    checkpoint,
    demand,
    note,
    wanted,
    whole_head,
    witness,
)


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
    assert report.caveats[0] == (
        BLOCK,
        "regtest: anybody can make these blocks, so they prove that the machinery works, and no more",
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


def test_headers_of_another_network_or_of_too_little_work_are_refused() -> None:
    assert check(bundle(whole_head()), demand(network=MAINNET)).code == "block_other_network"
    assert check(bundle(whole_head()), demand(work_min=1 << 40)).code == "block_work_low"


def test_a_bundle_with_a_forged_receipt_ends_at_the_receipt() -> None:
    read = read_bundle(bundle(whole_head()))
    file = replace(read, receipt=read.receipt[:-40] + bytes(40)).encode()
    report = check(file)
    assert not report.ok
    assert "checkpoint" not in [step.name for step in report.steps]


def test_the_same_head_twice_and_heads_out_of_order_are_refused() -> None:
    report = check(bundle(whole_head(), whole_head()))
    assert (report.ok, report.code) == (False, "evidence_malformed")
    assert "15 entries after 15" in report.steps[-1].detail


def test_what_the_address_does_not_prove_is_said() -> None:
    report = check(bundle(whole_head()), required=PARTS)
    (said,) = [text for name, text in report.caveats if name == "publication"]
    assert "the box's word alone" in said


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
    assert (
        "the owner distrusts"
        in check_bundle(file, _distrusting(seen_by_witness_ms + 1), demand(), wanted()).absent["publication"]
    )
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

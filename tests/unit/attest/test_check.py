"""Each point of an attestation broken in turn is refused by its own code; nothing else is believed either."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from appliance.crypto.owner import OwnerKey
from appliance.ledger.genesis import LogId
from appliance.model.errors import Rejected
from appliance.wire.attestation import Attestation
from drivers.tpm.quote_check import BootCounts
from provisioning.attest.check import STEPS, Attested, Demand, Steps, judge, read_release
from provisioning.attest.report import judged
from provisioning.owner.statements import sign
from tests.fakes.attested import (
    ENDORSEMENT,
    FIRMWARE_LOG,
    IMAGE,
    KEY,
    LOADER,
    NONCE,
    OTHER_LOADER,
    RELEASE,
    TLS,
    VALUES,
    attestation,
    certificate,
    changed,
    demand,
    trust,
)
from tests.fakes.measured import event, extended, firmware_log, userspace_log
from tests.fakes.sealer import AK_ATTRIBUTES, SoftwareAttestationKey
from tests.unit.ledger.shop import owner

KEY_NAME = KEY.name.hex()


def believed(said: Attestation, wanted: Demand) -> Attested:
    return judge(said, wanted, Steps())


def refusal(said: Attestation, wanted: Demand | None = None) -> str:
    with pytest.raises(Rejected) as refused:
        believed(said, demand() if wanted is None else wanted)
    return refused.value.code


def test_whole_attestation_says_what_runs_and_leaves_nothing_out() -> None:
    steps = Steps()
    attested = judge(attestation(), demand(), steps)
    assert attested.release == RELEASE
    assert (attested.key_name, attested.quote.counts) == (KEY_NAME, BootCounts(reset=5, restart=0))
    assert ([name for name, _ in steps.passed], steps.missing) == (list(STEPS), {})


@pytest.mark.parametrize(
    ("aspect", "lie"),
    [
        ("magic", {"magic": 0xFF544348}),
        ("type", {"kind": 0x8017}),
        ("attest_form", {"tail": b"\x00"}),
        ("nonce", {"nonce": NONCE}),  # the bare nonce, bound to nothing
        ("nonce", {"nonce": b""}),
        ("nonce", {"nonce": bytes(32)}),
        ("signer", {"hierarchy": 0x40000001}),
        ("pcr_selection", {"octets": b"\x80\x08\x00"}),
        ("pcr_selection", {"octets": b"\x91\x18\x00"}),
        ("pcr_selection", {"bank": 0x04}),
        ("pcr_selection", {"selection_count": 2}),
        ("pcr_selection", {"selection_count": 0}),
        ("pcr_digest", {"digest": bytes(32)}),
        ("safe", {"safe": 2}),
        ("firmware", {"firmware": 8}),
    ],
)
def test_each_lie_inside_the_quote_is_refused_by_its_name(aspect: str, lie: dict[str, Any]) -> None:
    assert refusal(attestation(quoted=lie)) == f"quote_{aspect}"


@pytest.mark.parametrize(
    ("previous", "code"),
    [
        (BootCounts(reset=6, restart=0), "quote_reset_count"),
        (BootCounts(reset=5, restart=1), "quote_restart_count"),
    ],
)
def test_counts_that_went_back_are_refused(previous: BootCounts, code: str) -> None:
    assert refusal(attestation(), demand(counts={KEY_NAME: previous})) == code
    assert believed(attestation(), demand(counts={"00": previous})).release == RELEASE


@pytest.mark.parametrize("cut", [b"", b"\x00"])
def test_signature_or_structure_with_other_bytes_is_refused(cut: bytes) -> None:
    said = attestation()
    assert refusal(changed(said, quote=said.quote[:-1] + cut)) == "quote_signature"
    assert refusal(changed(said, signature=said.signature[:-1] + cut + cut)) in (
        "quote_signature_form",
        "quote_signature",
    )
    assert refusal(changed(said, attestation_key=said.attestation_key + b"\x00")) == "attestation_of_another_box"


@pytest.mark.parametrize(
    "member", [{"tls": bytes(32)}, {"version": "9.9.9"}, {"image": f"{IMAGE}x"}, {"nonce": bytes(32)}]
)
def test_what_was_changed_after_the_quote_is_not_bound(member: dict[str, Any]) -> None:
    wanted = replace(demand(), releases=(), tls_sha256=None, nonce=member.get("nonce", NONCE))
    assert refusal(changed(attestation(), **member), wanted) == "quote_nonce"


def test_another_question_another_door_another_log_are_refused() -> None:
    said = attestation()
    assert refusal(said, demand(nonce=bytes(32))) == "attestation_nonce_wrong"
    assert refusal(said, demand(nonce=b"")) == "attestation_nonce_wrong"
    assert refusal(said, demand(tls_sha256=bytes(32))) == "attestation_door_wrong"
    assert refusal(said, demand(origin="shop.example/SN-2/1")) == "attestation_origin_wrong"
    assert refusal(attestation(origin="shop.example/SN-2/1")) == "attestation_origin_wrong"
    assert refusal(attestation(log=bytes(32))) == "attestation_log_unknown"


def test_key_without_the_owners_word_is_refused() -> None:
    other, stranger = SoftwareAttestationKey(), OwnerKey.generate()
    assert refusal(attestation(certificate=None)) == "attestation_not_certified"
    assert refusal(attestation(key=other)) == "attestation_of_another_box"
    assert refusal(attestation(certificate=certificate(log_id=LogId(bytes(32))))) == "attestation_of_another_box"
    assert refusal(attestation(endorsement_certificate=b"another")) == "attestation_of_another_box"
    assert refusal(attestation(certificate=certificate(by=stranger))) == "classical_signature_missing"
    release = sign(owner(), RELEASE).file
    assert refusal(attestation(certificate=release)) == "classical_signature_wrong"
    assert refusal(attestation(certificate=certificate()[:-1])).startswith("cbor_")


@pytest.mark.parametrize("bit", [1, 4, 5, 16, 18])
def test_certified_key_with_other_attributes_proves_nothing(bit: int) -> None:
    key = SoftwareAttestationKey(attributes=AK_ATTRIBUTES ^ (1 << bit))
    assert refusal(attestation(key=key, certificate=certificate(key.public))) == "quote_ak_attributes"


@pytest.mark.parametrize(
    ("code", "logs"),
    [
        ("event_log_malformed", {"event_log": FIRMWARE_LOG + b"\x00"}),
        ("event_log_malformed", {"event_log": FIRMWARE_LOG[:-1]}),
        ("event_log_malformed", {"event_log": b""}),
        ("event_log_malformed", {"userspace_log": b"x"}),
        ("event_log_differs", {"event_log": FIRMWARE_LOG.replace(LOADER, LOADER[::-1]) + event(0, b"one more")}),
        ("event_log_differs", {"event_log": FIRMWARE_LOG.replace(hashlib.sha256(LOADER).digest(), bytes(32))}),
        ("event_log_differs", {"event_log": firmware_log()}),
        ("event_log_differs", {"userspace_log": b""}),
        ("event_log_differs", {"userspace_log": userspace_log((11, b"ready"), (11, b"enter-initrd"))}),
        ("event_log_missing", {"event_log": None}),
    ],
)
def test_log_that_was_edited_or_taken_away_is_refused(code: str, logs: dict[str, Any]) -> None:
    assert refusal(attestation(**logs)) == code


def test_event_types_and_texts_are_not_what_is_believed() -> None:
    edited = FIRMWARE_LOG.replace(len(LOADER).to_bytes(4, "little") + LOADER, (4).to_bytes(4, "little") + b"safe")
    assert believed(attestation(event_log=edited), demand()).release == RELEASE


def test_unknown_event_is_refused_also_where_the_log_tells_of_it_truly() -> None:
    values = {**VALUES, 4: extended(LOADER, OTHER_LOADER)}
    log = FIRMWARE_LOG + event(4, OTHER_LOADER)
    assert refusal(attestation(values=values, event_log=log)) == "event_unknown"


@pytest.mark.parametrize("pcr", [0, 7, 11])
def test_value_that_the_release_does_not_leave_is_refused(pcr: int) -> None:
    more = b"something else was started"
    values = {**VALUES, pcr: hashlib.sha256(VALUES[pcr] + hashlib.sha256(more).digest()).digest()}
    logs: dict[str, Any] = {"event_log": FIRMWARE_LOG + event(pcr, more)}
    if pcr == 11:
        logs = {"userspace_log": userspace_log((11, b"enter-initrd"), (11, b"ready"), (11, more))}
    assert refusal(attestation(values=values, **logs)) == "release_value_wrong"


def test_wrong_release_or_selection_is_refused() -> None:
    assert refusal(attestation(), demand(releases=(replace(RELEASE, image="tillstone 0.2.0 release"),))) == (
        "release_unknown"
    )
    assert refusal(attestation(image="tillstone 0.0.9 release")) == "release_unknown"
    fewer = {pcr: value for pcr, value in VALUES.items() if pcr != 7}
    assert refusal(attestation(values=fewer)) == "release_pcrs_differ"
    more = {**VALUES, 12: bytes(32)}
    assert refusal(attestation(values=more)) == "release_pcrs_differ"


def test_release_is_the_owners_or_none() -> None:
    file = sign(owner(), RELEASE).file
    assert read_release(file, trust()) == RELEASE
    for wrong in (file[:-1], sign(OwnerKey.generate(), RELEASE).file, certificate()):
        with pytest.raises(Rejected):
            read_release(wrong, trust())


def test_without_log_and_release_it_says_what_was_not_proven() -> None:
    said = attestation(event_log=None, event_log_absent="no firmware", userspace_log=None)
    attested, report = judged(said, demand(releases=(), tls_sha256=None))
    assert attested is not None
    assert report.absent.keys() == {"door", "event log", "release"}
    assert report.absent["event log"] == "no firmware"
    assert report.verdict == "is genuine, without a release to compare with"
    nothing = {pcr: bytes(32) for pcr in VALUES}
    said = attestation(values=nothing, event_log=None, userspace_log=None)
    _, report = judged(said, demand(releases=()))
    assert "nothing was measured" in report.sentences[0]


def test_report_names_the_question_that_failed() -> None:
    attested, report = judged(attestation(endorsement_certificate=ENDORSEMENT[::-1]), demand(tls_sha256=TLS))
    assert (attested, report.code) == (None, "attestation_of_another_box")
    assert [(step.name, step.ok) for step in report.steps] == [("box", True), ("attestation key", False)]
    assert report.not_reached == ("door", "quote", "event log", "release")
    _, report = judged(attestation(), demand())
    assert "runs tillstone 0.1.0 release on test machine" in report.sentences[0]

"""What the public door and `tillstone ledger proof` give is checked by a command, and each fault has its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.crypto import signing_key
from appliance.evidence.cosignature import WitnessPolicy
from appliance.ledger.tlog import TlogProof
from appliance.ledger.trust import Evidence, encode_evidence
from provisioning.cli import main
from provisioning.verify.checkpoint_check import check_checkpoint, check_proof
from tests.fakes.log import shop_log
from tests.unit.ledger.shop import SeededSigner, genesis, owner
from tests.unit.verify.bundles import TIME_S, address_signed, bundle, checkpoint, note, root_of, whole_head, witness

SEQ = 4


def proof(extra: bytes | None = None) -> TlogProof:
    proven = shop_log().whole.entries[SEQ]
    return TlogProof(index=SEQ, path=proven.path, checkpoint=note(), extra=proven.entry if extra is None else extra)


def trust_with_a_witness() -> bytes:
    policy = WitnessPolicy(keys=witness().keys, needed=1)
    return encode_evidence(owner().public, Evidence(logs=(genesis(),)), policy)


def test_a_checkpoint_is_explained() -> None:
    report = check_checkpoint(note(), shop_log().trust)
    assert report.ok
    assert [step.name for step in report.steps] == ["trust file", "file", "log", "signatures"]
    assert report.facts["size"] == 15
    assert "names no witness" in report.absent["witnesses"]


def test_witnesses_of_a_checkpoint_count_when_the_trust_file_names_them() -> None:
    cosigned = note() + witness().lines(checkpoint().text(), TIME_S)
    assert check_checkpoint(cosigned, trust_with_a_witness()).absent == {}
    assert "0 signed" in check_checkpoint(note(), trust_with_a_witness()).absent["witnesses"]
    other = note() + witness().lines(replace(checkpoint(), size=14).text(), TIME_S)
    assert check_checkpoint(other, trust_with_a_witness()).code == "cosignature_wrong"


def test_a_proof_is_explained_and_says_what_the_entry_says() -> None:
    report = check_proof(proof().encode(), shop_log().trust)
    assert report.ok
    assert "sale of 12.50 EUR" in report.sentences[0]
    assert report.entries[0]["seq"] == SEQ


def test_a_proof_of_the_public_door_needs_the_entry_from_a_receipt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, trust, receipt, other = (tmp_path / name for name in ("p", "trust.json", "receipt", "other"))
    file.write_bytes(proof(b"").encode())
    trust.write_bytes(shop_log().trust)
    receipt.write_bytes(shop_log().sale)
    other.write_bytes(shop_log().card)
    words = ["verify", "proof", str(file), "--trust", str(trust)]
    assert main(words) == 2
    assert "--receipt FILE" in capsys.readouterr().err
    assert main([*words, "--receipt", str(receipt)]) == 0
    assert "sale of 12.50 EUR" in capsys.readouterr().out
    assert main([*words, "--receipt", str(other)]) == 2


@pytest.mark.parametrize(
    ("change", "step", "code"),
    [
        (lambda: proof(shop_log().whole.entries[5].entry).encode(), "path", "tlog_proof_wrong"),
        (lambda: replace(proof(), index=5).encode(), "path", "tlog_proof_wrong"),
        (lambda: proof().encode()[:-300], "file", "checkpoint_malformed"),
        (lambda: b"c2sp.org/tlog-proof@v1\n", "file", "tlog_proof_malformed"),
        (lambda: proof().encode().replace(b"shop.example/SN-1/1\n15", b"shop.example/SN-1/1\n16"), "signatures", None),
        (lambda: proof().encode().replace(b"SN-1/1\n15", b"SN-2/1\n15"), "log", "checkpoint_origin_unknown"),
    ],
)
def test_a_changed_proof_is_refused_at_its_step(change: object, step: str, code: str | None) -> None:
    assert callable(change)
    report = check_proof(change(), shop_log().trust)
    assert (report.ok, report.steps[-1].name) == (False, step)
    assert code in (None, report.code)
    assert report.hint


def test_no_changed_byte_of_a_proof_passes() -> None:
    file = proof().encode()
    for at in range(0, len(file), 41):
        changed = file[:at] + bytes([file[at] ^ 1 << at % 8]) + file[at + 1 :]
        assert not check_proof(changed, shop_log().trust).ok, at


def test_a_checkpoint_by_other_keys_names_both_and_says_what_it_may_be() -> None:
    foreign = SeededSigner(signing_key.ml_dsa_87_from_seed(bytes(31) + b"\x09"))
    lines = note().partition(b"\n\n")[2].splitlines(keepends=True)
    others = address_signed(root_of(note(), 15), foreign).splitlines(keepends=True)
    by_others = checkpoint().text() + b"\n" + others[1]
    report = check_checkpoint(by_others, shop_log().trust)
    assert report.code == "checkpoint_signature_missing"
    detail = report.steps[-1].detail
    assert "signed by keys" in detail
    assert "trust.json knows" in detail
    assert "older than a rotation" in detail
    half = check_checkpoint(checkpoint().text() + b"\n" + lines[0], shop_log().trust)
    assert half.steps[-1].detail == "expected one ML-DSA-87 signature, saw 0"


def test_a_file_of_another_kind_names_the_command_that_checks_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = tmp_path / "trust.json"
    trust.write_bytes(shop_log().trust)
    files = {
        "receipt": shop_log().sale,
        "bundle": bundle(whole_head()),
        "proof": proof().encode(),
        "checkpoint": note(),
        "log": b"tillstone log v1\n",
    }
    for kind, content in files.items():
        file = tmp_path / kind
        file.write_bytes(content)
        for asked in files:
            if asked != kind:
                assert main(["verify", asked, str(file), "--trust", str(trust)]) == 2
                assert f"tillstone verify {kind} {file} --trust {trust}" in capsys.readouterr().err

"""A real box says what its TPM says: fresh, bound, certified by its owner, and readable for tpm2-tools."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioning.cli import main
from tests.integration.box import RunningBox, running_box

NONCE = "5a" * 32


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    """A box of this file's own: its power is cut, and what it answers is bounded for all who ask."""
    with running_box(tmp_path_factory.mktemp("shop")) as running:
        yield running
        assert running.events("request.crashed") == []


def url(box: RunningBox) -> str:
    return f"http://127.0.0.1:{box.public_port}"


def verify(box: RunningBox, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["attest", "verify", url(box), "--trust", str(box.box.trust), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def saved(box: RunningBox, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["attest", "quote", url(box), "-o", str(folder), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_box_is_believed_with_what_it_cannot_prove_left_out(
    box: RunningBox, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = verify(box, capsys, "--door", box.url)
    assert (code, told["ok"], told["origin"]) == (0, True, box.audience)
    assert [step["name"] for step in told["steps"]] == ["box", "attestation key", "door", "quote"]
    assert told["maker"] is not None, "the software TPM's own authority is known where it was made"
    assert set(told["pcrs"]) == {"0", "2", "4", "7", "11", "12", "13"}


def test_counts_are_remembered_and_never_go_back(box: RunningBox, capsys: pytest.CaptureFixture[str]) -> None:
    _, before = verify(box, capsys)
    box.power_cycle()
    box.start()
    code, after = verify(box, capsys)
    assert (code, after["reset_count"]) == (0, before["reset_count"] + 1)
    file = box.box.trust.with_name("trust.json.counts.json")
    kept = json.loads(file.read_text())
    assert kept == {after["attestation_key"]: {"reset": after["reset_count"], "restart": 0}}
    file.write_text(json.dumps({after["attestation_key"]: {"reset": after["reset_count"] + 1, "restart": 0}}))
    code, refused = verify(box, capsys)
    assert (code, refused["code"]) == (1, "quote_reset_count")
    file.write_text("{")
    assert main(["attest", "verify", url(box), "--trust", str(box.box.trust)]) == 2
    file.unlink()
    file.mkdir()
    assert main(["attest", "verify", url(box), "--trust", str(box.box.trust)]) == 2
    file.rmdir()


def test_saved_answer_counts_for_its_own_nonce_alone(
    box: RunningBox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = saved(box, tmp_path, capsys)
    again = ["attest", "verify", asked["answer"], "--trust", str(box.box.trust)]
    assert main([*again, "--nonce", asked["nonce"]]) == 0
    assert main([*again, "--nonce", NONCE]) == 1
    assert main(again) == 1
    assert main([*again, "--nonce", "xyz"]) == 2


def test_tpm2_tools_accept_the_quote(box: RunningBox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("tpm2_checkquote") is None:
        pytest.skip("tpm2_checkquote (package tpm2-tools) is missing")
    command = saved(box, tmp_path, capsys)["tpm2_checkquote"]
    judged = subprocess.run(command, check=False, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stderr
    others = [*command[:-1], f"--qualification={NONCE}"]
    assert subprocess.run(others, check=False, capture_output=True).returncode != 0
    (tmp_path / "quote.pcrs").write_bytes(b"\x01" + bytes(7 * 32 - 1))
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


@pytest.mark.parametrize("query", ["", "?nonce=", "?nonce=5A", f"?nonce={NONCE}0", f"?nonce={NONCE.upper()}", "?n=1"])
def test_question_without_a_nonce_costs_no_quote(box: RunningBox, query: str) -> None:
    status, content = box.public(f"/attestation{query}")
    assert (status, json.loads(content)["code"]) == (400, "question_malformed")


def test_strangers_are_slowed_before_the_tpm_is(box: RunningBox) -> None:
    answers = [box.public(f"/attestation?nonce={NONCE}") for _ in range(12)]
    assert {status for status, _ in answers} <= {200, 429}
    assert json.loads(answers[-1][1])["code"] == "too_many_reads"


def test_box_whose_key_nobody_certified_says_so_and_is_not_believed(
    box: RunningBox, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = box.box.attestation.read_bytes()
    box.box.attestation.unlink()
    box.stop()
    box.start()
    code, refused = verify(box, capsys)
    assert (code, refused["code"]) == (1, "attestation_not_certified")
    box.box.attestation.write_bytes(kept)
    box.stop()
    box.start()
    assert verify(box, capsys)[0] == 0


def test_nobody_there_is_no_verdict(box: RunningBox) -> None:
    assert main(["attest", "verify", "http://127.0.0.1:9", "--trust", str(box.box.trust)]) == 2

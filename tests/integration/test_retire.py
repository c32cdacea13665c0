"""The end of a box: last words that stay provable, keys that are gone and proven so, and no start ever again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from drivers.tpm.bundle import decode_bundle
from drivers.tpm.context import TpmContext
from drivers.tpm.errors import TpmForeign
from drivers.tpm.seal import unseal
from tests.integration.box import RunningBox, refused_with, running_box
from tests.integration.ceremony import Said, command
from tests.integration.till import CASH, paired_till

SERIAL = "SANDBOX-1"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RunningBox]:
    with running_box(tmp_path) as running:
        yield running


def retire(box: RunningBox, *arguments: object) -> Said:
    return command("retire", "--dir", box.box.folder, *arguments)


def contents(box: RunningBox) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in box.box.folder.rglob("*") if path.is_file()}


def off(box: RunningBox) -> None:
    box.stop()
    box.power_off()


def test_a_retired_box_leaves_last_words_and_no_secret(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")
    receipt: bytes = till.ask("payment", CASH).body["receipt"]
    trust = tmp_path / "trust.json"
    shutil.copy(box.box.trust, trust)
    running = retire(box, "--yes", SERIAL)
    assert "the box runs; nothing was destroyed" in running.errors
    off(box)
    before = contents(box)
    for wrong in (("--yes", "SANDBOX-2"), ()):
        assert "nothing was destroyed" in retire(box, *wrong).errors
    assert contents(box) == before
    stick = tmp_path / "stick"
    stick.mkdir()
    said = retire(box, "--yes", SERIAL, "--reason", "sold", "--stick", stick, "--json")
    assert said.code == 0, said.out + said.errors
    assert said.json["proven"] is True
    assert said.json["token_objects"] == 5
    assert said.json["token"] == "initialised again: empty"
    assert said.json["tpm"].startswith("cleared")
    for path in (box.box.folder / "ml-dsa.envelope", box.box.folder / "tls" / "authority-key.pem"):
        assert not path.read_bytes().strip(b"\0")
    checked = command("provision", "verify", stick / "retirement.cbor", "--trust", trust, "--json").json
    assert (checked["ok"], checked["kind"]) == (True, "retirement")
    (step,) = checked["steps"]
    assert (step["facts"]["reason"], step["facts"]["serial"]) == ("sold", SERIAL)
    proof = json.loads((stick / "retirement.json").read_bytes())
    assert (proof["proven"], proof["failures"]) == (True, [])
    (tmp_path / "receipt").write_bytes(receipt)
    assert command("verify", "receipt", tmp_path / "receipt", "--trust", trust).code == 0, "what it signed stays true"
    box.power_cycle()
    assert refused_with(box) == "box_retired"


def test_what_was_copied_before_opens_nothing_afterwards(box: RunningBox, tmp_path: Path) -> None:
    off(box)
    copied = tmp_path / "copied"
    shutil.copytree(box.box.folder, copied, ignore=shutil.ignore_patterns("*.sock", "socket*"))
    assert retire(box, "--yes", SERIAL).code == 0
    box.power_cycle()
    bundle = decode_bundle((copied / "tpm-bundle.json").read_bytes())
    with closing(TpmContext(box.tcti)) as tpm, pytest.raises(TpmForeign):
        unseal(tpm, bundle.sealed, srk_handle=bundle.srk_handle, srk_name=bundle.srk_name, policies=bundle.policies)


def test_retiring_twice_is_as_good_as_once(box: RunningBox) -> None:
    off(box)
    assert retire(box, "--yes", SERIAL).code == 0
    certificate = (box.box.folder / "retirement.cbor").read_bytes()
    again = retire(box, "--yes", SERIAL, "--json")
    assert again.code == 0, again.out + again.errors
    assert again.json["proven"] is True
    assert (box.box.folder / "retirement.cbor").read_bytes() == certificate


def test_a_box_without_its_token_is_retired_only_when_that_is_said(box: RunningBox) -> None:
    off(box)
    shutil.rmtree(box.box.token / "store")
    (box.box.token / "store").mkdir()
    refused = retire(box, "--yes", SERIAL)
    assert "nothing was destroyed" in refused.errors
    assert not (box.box.data / "retired").exists()
    said = retire(box, "--yes", SERIAL, "--unsigned", "--json")
    assert said.json["certificate"] is None
    assert said.json["tpm"].startswith("cleared")
    assert (box.box.data / "retired").exists()


@pytest.mark.parametrize("dies", ["certificate", "mark", "keys", "tpm", "files", "token"])
def test_a_retirement_that_was_cut_short_is_finished_by_running_it_again(box: RunningBox, dies: str) -> None:
    off(box)
    program = [sys.executable, "-m", "tests.integration.dying_retirement", dies, str(box.box.folder), SERIAL]
    done = subprocess.run(program, capture_output=True, timeout=120, check=False)
    assert done.returncode == 86, done.stderr
    said = retire(box, "--yes", SERIAL, "--json")
    assert said.code == 0, said.out + said.errors
    assert said.json["proven"] is True
    box.power_cycle()
    assert refused_with(box) == "box_retired"

"""From one sale to a judge: real witness, calendar, Bitcoin node and IPFS node, then a bundle that is checked alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.evidence.bundle import read_bundle
from provisioning.sandbox.bitcoin_node import install_node as install_bitcoin
from provisioning.sandbox.children import ChildFailed
from provisioning.sandbox.ipfs_node import install_node as install_ipfs

RUN_S_MAX = 400


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `make evidence` left its files, having checked them."""
    folder = tmp_path_factory.mktemp("evidence")
    try:
        install_bitcoin()
        install_ipfs()
    except ChildFailed as missing:
        pytest.skip(str(missing))
    command = [sys.executable, "-m", "provisioning.sandbox.anchored"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder / "build"


def tillstone(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "provisioning.cli", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_bundle_is_whole_and_a_stranger_believes_it(kept: Path) -> None:
    said = tillstone(kept, "verify", "bundle", "evidence.bundle", "--trust", "trust.json", "--json")
    found = json.loads(said.stdout)
    assert (said.returncode, found["ok"], found["missing"]) == (0, True, [])
    assert [entry["kind"] for entry in found["entries"]] == ["sale"]
    blocks = [head["block"] for head in found["heads"] if head["block"]]
    assert blocks[0]["confirmations"] >= 6
    assert any("witness.example/w1" in head["witnesses"] for head in found["heads"])


def test_what_is_paid_afterwards_is_believed_by_the_same_trust_file(kept: Path) -> None:
    paid = tillstone(kept.parent, "pay", "--json")
    assert paid.returncode == 0, paid.stdout + paid.stderr
    for words in (("receipt", "receipt.cbor"), ("bundle", "evidence.bundle", "--require", "block")):
        said = tillstone(kept, "verify", *words, "--trust", "trust.json")
        assert said.returncode == 0, said.stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--network", "mainnet"), "block_other_network"),
        (("--needed", "1", "--witness", "another.example+00000000+BA=="), "witness_key_malformed"),
    ],
)
def test_whoever_believes_others_is_told_what_is_wrong(kept: Path, words: tuple[str, ...], code: str) -> None:
    said = tillstone(kept, "verify", "bundle", "evidence.bundle", "--trust", "trust.json", *words)
    assert said.returncode in (1, 2)
    assert code in said.stdout + said.stderr


def test_one_changed_byte_of_the_receipt_is_not_believed(kept: Path) -> None:
    changed = bytearray((kept / "evidence.bundle").read_bytes())
    changed[changed.find(b"receipt") + 200] ^= 1
    (kept / "changed.bundle").write_bytes(changed)
    assert tillstone(kept, "verify", "bundle", "changed.bundle", "--trust", "trust.json").returncode == 1


def test_the_timestamp_stands_beside_the_note_that_it_is_about(kept: Path) -> None:
    bundle = read_bundle((kept / "evidence.bundle").read_bytes())
    stamped = next(head for head in bundle.heads if head.timestamp is not None)
    assert (kept / "anchor.ots").read_bytes() == stamped.timestamp
    assert (kept / "anchor").read_bytes() == stamped.note

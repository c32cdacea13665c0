"""`tillstone anchor`: a key that nobody else can read, never written over, and the words that get it paid and used."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from appliance.config.describe import describe
from appliance.config.load import load
from appliance.evidence.block import MAINNET, NETWORKS
from appliance.evidence.transaction import AnchorKey
from provisioning.cli import main
from tests.unit.config.test_load import write

# BIP 173: the address of <key 1> CHECKSIG under its SHA-256.
ADDRESS_OF_ONE = "bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3"
ONE = f"{1:064x}\n"
NODE = (
    '\n[timestamps.node]\nurl = "http://127.0.0.1:8332/"\ncredential_path = "bitcoin-credential"\nnetwork = "regtest"\n'
)


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["anchor", *map(str, arguments), "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["anchor", *map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.fixture
def known_key(tmp_path: Path) -> Path:
    file = tmp_path / "anchor.key"
    file.touch(mode=0o600)
    file.write_text(ONE)
    return file


def test_the_key_is_for_its_owner_alone_and_pays_to_the_address_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "anchor.key"
    answer = told(capsys, "key", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["anchor.key"]
    assert answer["address"] == AnchorKey.read(file.read_text()).address(MAINNET)
    assert answer["settings"] == {"timestamps.node.own": {"key_path": str(file), "coins": []}}
    assert file.read_text().strip() not in json.dumps(answer)


def test_two_keys_are_not_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    addresses = {told(capsys, "key", tmp_path / name)["address"] for name in ("first", "second")}
    assert len(addresses) == 2


def test_a_key_is_never_written_over(known_key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "key", known_key)
    assert "never written over" in said
    assert "tillstone anchor address" in said
    assert known_key.read_text() == ONE


def test_a_link_to_nothing_is_not_written_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "anchor.key").symlink_to(tmp_path / "elsewhere")
    assert "never written over" in refused(capsys, "key", tmp_path / "anchor.key")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be made" in refused(capsys, "key", tmp_path / "missing" / "anchor.key")


def test_the_address_of_a_key_is_told_again(known_key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "address", known_key)["address"] == ADDRESS_OF_ONE


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_each_network_has_its_address(known_key: Path, capsys: pytest.CaptureFixture[str], network: str) -> None:
    answer = told(capsys, "address", known_key, "--network", network)
    assert (answer["network"], answer["address"]) == (network, AnchorKey(bytes(31) + b"\1").address(NETWORKS[network]))


def test_the_network_is_the_one_of_the_settings(
    tmp_path: Path, known_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write(tmp_path, describe() + NODE)
    known_key.write_text(ONE)
    assert told(capsys, "address", known_key, "--config", settings)["address"].startswith("bcrt1q")


def test_settings_without_a_node_name_no_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = write(tmp_path, describe())
    assert "--network" in refused(capsys, "key", tmp_path / "new.key", "--config", settings)
    assert not (tmp_path / "new.key").exists()


def test_what_is_told_to_put_into_the_settings_is_what_they_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / 'a "key" of ours'
    settings = write(tmp_path, describe() + NODE)
    assert main(["anchor", "key", str(file), "--config", str(settings)]) == 0
    said = capsys.readouterr().out
    own = said[said.index("    [timestamps.node.own]") :]
    assert tomllib.loads(own)["timestamps"]["node"]["own"]["key_path"] == str(file)
    settings.write_text(settings.read_text() + own.replace("TXID:INDEX", "ab" * 32 + ":0"))
    timestamps = load(settings).timestamps
    assert timestamps is not None
    assert timestamps.node is not None
    assert timestamps.node.own is not None
    assert timestamps.node.own.key_path == file


def test_a_key_that_others_may_read_is_not_used(known_key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known_key.chmod(0o644)
    assert "secret_file_unusable" in refused(capsys, "address", known_key)


def test_a_file_that_is_no_key_is_told_without_its_content(known_key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known_key.write_text("correct horse battery staple\n")
    said = refused(capsys, "address", known_key)
    assert "anchor_key_malformed" in said
    assert "horse" not in said

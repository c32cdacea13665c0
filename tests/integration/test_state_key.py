"""Owns the promises of the state's recovery key, on real LUKS headers: it opens, replaces, and is the owner's alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.crypto import hpke
from appliance.model.errors import Rejected, Unavailable
from provisioning import state_key
from provisioning.cli import main
from provisioning.recipient_key import make_recipient, read_seed
from provisioning.state_key import enrol, open_file, seal_to, volume_id
from provisioning.terminal.durable import write_durably

PROGRAMS = {"cryptsetup": "cryptsetup-bin", "systemd-cryptenroll": "systemd"}


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LUKS2 volume that the key in `first` beside it opens, as the TPM does on a box."""
    monkeypatch.setenv("PATH", os.environ["PATH"] + ":/usr/sbin:/sbin")
    if missing := [package for name, package in PROGRAMS.items() if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    made, first = tmp_path / "volume", tmp_path / "first"
    with made.open("wb") as file:
        file.truncate(32 * 2**20)
    first.touch(mode=0o600)
    first.write_text("first key")
    quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    command = ["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", *quick, "--key-file", str(first)]
    subprocess.run([*command, str(made)], check=True, capture_output=True)
    return made


@pytest.fixture
def recipient(tmp_path: Path) -> Path:
    public, _ = make_recipient(tmp_path / "recovery")
    return public


def unlock(volume: Path) -> tuple[str, ...]:
    return (f"--unlock-key-file={volume.with_name('first')}",)


def opens(volume: Path, key: str) -> bool:
    command = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", str(volume)]
    return subprocess.run(command, input=key.encode(), capture_output=True, check=False).returncode == 0


def test_the_recovery_key_opens_the_volume_beside_the_key_that_was_there(volume: Path) -> None:
    key = enrol(volume, unlock=unlock(volume))
    assert re.fullmatch(r"([a-z]{8}-){7}[a-z]{8}", key)
    assert opens(volume, key)
    assert opens(volume, "first key")
    assert not opens(volume, key[::-1])


def test_a_second_key_replaces_the_first(volume: Path) -> None:
    first, second = enrol(volume, unlock=unlock(volume)), enrol(volume, unlock=unlock(volume))
    assert not opens(volume, first)
    assert opens(volume, second)


def test_only_the_owner_reads_the_sealed_key(volume: Path, recipient: Path, tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    seal_to(recipient.read_bytes(), volume, sealed, unlock=unlock(volume))
    seed = _seed(tmp_path / "recovery")
    identifier, key = open_file(sealed.read_bytes(), seed)
    assert identifier == volume_id(volume)
    assert opens(volume, key)
    assert key.encode() not in sealed.read_bytes()
    for other, octets in ((bytes(hpke.SEED_BYTES), sealed.read_bytes()), (seed, sealed.read_bytes()[:-1])):
        with pytest.raises(Rejected) as refused:
            open_file(octets, other)
        assert refused.value.code == "seal_refused"


def test_whoever_waits_for_the_sealed_key_may_read_it_as_soon_as_it_is_there(
    volume: Path, recipient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    replace = Path.replace

    def noted(path: Path, target: Path) -> Path:
        modes.append(path.stat().st_mode & 0o777)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    seal_to(recipient.read_bytes(), volume, tmp_path / "sealed", unlock=unlock(volume))
    assert modes[-1] == 0o644, "the ceremony is another user, and a power cut must not leave it waiting for ever"


def test_the_command_says_which_disk_and_which_key(
    volume: Path, recipient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed = tmp_path / "sealed"
    seal_to(recipient.read_bytes(), volume, sealed, unlock=unlock(volume))
    assert main(["state-key", str(sealed), "--key", str(tmp_path / "recovery"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["volume"] == volume_id(volume)
    assert opens(volume, said["key"])
    assert main(["state-key", str(sealed), "--key", str(recipient)]) == 2
    assert "recovery-key" in capsys.readouterr().err


def test_a_recipient_that_is_none_changes_nothing(volume: Path, tmp_path: Path) -> None:
    before = volume.read_bytes()
    with pytest.raises(Rejected) as refused:
        seal_to(b"bm9uZQ==", volume, tmp_path / "sealed", unlock=unlock(volume))
    assert refused.value.code == "recipient_key_malformed"
    assert volume.read_bytes() == before
    assert not (tmp_path / "sealed").exists()


def test_a_volume_that_does_not_open_keeps_its_keys(volume: Path) -> None:
    volume.with_name("first").write_text("another key")
    with pytest.raises(Unavailable) as refused:
        enrol(volume, unlock=unlock(volume))
    assert refused.value.code == "state_key_refused"
    assert opens(volume, "first key")


def test_a_disk_that_is_not_encrypted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    with pytest.raises(Rejected) as refused:
        enrol(tmp_path / "disk")
    assert refused.value.code == "volume_not_encrypted"


def test_a_cut_between_enrolment_and_file_leaves_no_key_that_nobody_has(
    volume: Path, recipient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []

    def cut(path: Path, content: bytes) -> None:
        lost.append(open_file(content, _seed(tmp_path / "recovery"))[1])
        raise OSError("power")

    monkeypatch.setattr(state_key, "write_durably", cut)
    with pytest.raises(OSError, match="power"):
        seal_to(recipient.read_bytes(), volume, tmp_path / "sealed", unlock=unlock(volume))
    assert opens(volume, lost[0])
    assert not (tmp_path / "sealed").exists()
    monkeypatch.setattr(state_key, "write_durably", write_durably)
    seal_to(recipient.read_bytes(), volume, tmp_path / "sealed", unlock=unlock(volume))
    assert not opens(volume, lost[0])
    assert opens(volume, open_file((tmp_path / "sealed").read_bytes(), _seed(tmp_path / "recovery"))[1])


def _seed(private: Path) -> bytes:
    return read_seed(private, made_by="test")

"""What a terminal keeps is private, whole and never quietly forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.model.errors import Rejected
from appliance.wire.requests import HeadBody, Seen
from provisioning.terminal import key_file
from provisioning.terminal.home import Memory, Profile, TerminalHome
from provisioning.terminal.memory import TerminalMemory


def test_key_file_is_private_and_comes_back_as_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    made = key_file.make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert key_file.load(path).key_id == made.key_id


def test_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key_file.make(path)
    with pytest.raises(Rejected, match="key_file_exists"):
        key_file.make(path)


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key_file.make(path)
    path.chmod(0o640)
    with pytest.raises(Rejected, match="key_file_too_open"):
        key_file.load(path)


def test_missing_and_malformed_keys_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(Rejected, match="key_file_missing"):
        key_file.load(path)
    path.write_text("not a key")
    path.chmod(0o600)
    with pytest.raises(Rejected, match="private_key_malformed"):
        key_file.load(path)


def test_profile_and_trust_come_back_and_stay_private(tmp_path: Path) -> None:
    home = TerminalHome(folder=tmp_path)
    profile = Profile(url="https://127.0.0.1:1", terminal="till-1", audience="a/b/1", currency="EUR", ca_file="ca.pem")
    home.keep_profile(profile)
    home.keep_trust("{}")
    assert home.profile() == profile
    assert home.trust() == b"{}"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_unpaired_folder_says_pair_first(tmp_path: Path) -> None:
    home = TerminalHome(folder=tmp_path)
    with pytest.raises(Rejected, match="profile_missing"):
        home.profile()
    with pytest.raises(Rejected, match="trust_missing"):
        home.trust()


def test_damaged_memory_stops_the_till_instead_of_forgetting_the_highest_head(tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_text('{"seen":')
    with pytest.raises(Rejected, match="memory_malformed"):
        TerminalHome(folder=tmp_path).memory()


async def test_seen_head_only_rises_and_survives_a_restart(tmp_path: Path) -> None:
    home = TerminalHome(folder=tmp_path)
    memory = TerminalMemory(home=home, memory=Memory())
    proof = HeadBody(root="aa" * 32, classical="Yw", post_quantum="cHE")
    await memory.learn_head(Seen(size=9, root="aa" * 32), proof)
    await memory.learn_head(Seen(size=7, root="bb" * 32), HeadBody(root="bb" * 32, classical="", post_quantum=""))
    await memory.learn_clock(-5)
    kept = await asyncio.to_thread(home.memory)
    assert kept == Memory(seen=Seen(size=9, root="aa" * 32), proof=proof, clock_offset_ms=-5)

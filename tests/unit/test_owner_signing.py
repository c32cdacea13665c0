"""The owner's key file as the signing commands read it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from appliance.crypto.owner import OwnerKey
from appliance.model.errors import Unavailable
from provisioning.owner.signing import owner_key


def test_a_key_whose_last_byte_is_that_of_a_newline_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key in 256 ends so: as a text its file would lose a byte, and be none."""
    file = tmp_path / "owner-key"
    content = bytes(range(199)) + b"\n"
    file.touch(mode=0o600)
    file.write_bytes(content)
    seen: list[bytes] = []
    monkeypatch.setattr(OwnerKey, "from_bytes", lambda data, _passphrase: seen.append(data))
    owner_key(argparse.Namespace(owner_key=file, passphrase_file=None, share=[]))
    assert seen == [content]


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "owner-key"
    file.write_bytes(b"key")
    file.chmod(0o644)
    with pytest.raises(Unavailable, match="secret_file_unusable"):
        owner_key(argparse.Namespace(owner_key=file, passphrase_file=None, share=[]))

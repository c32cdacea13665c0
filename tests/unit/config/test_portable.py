"""Owns the promise of what moves to another box: every setting of the shop with its files, none of the devices."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.config.describe import describe
from appliance.config.load import load
from appliance.config.portable import DEVICE_SECTIONS, portable_files, portable_table
from tests.unit.config.test_load import write


def test_files_that_settings_name_move_and_those_of_devices_stay(tmp_path: Path) -> None:
    settings = load(write(tmp_path, describe()))
    certificate = tmp_path / "pos-certificate.pem"
    assert settings.pos.tls_certificate_path == certificate
    for file in (certificate, tmp_path / "authority.pem", tmp_path / "authority-key.pem"):
        file.write_text("pem")
    files = portable_files(settings)
    assert {"pos.tls_certificate_path", "pos.tls_key_path", "pos.authority.pem", "pos.authority-key.pem"} <= set(files)
    assert not [place for place in files if place.partition(".")[0] in DEVICE_SECTIONS]


def test_the_authority_in_the_token_stays_with_its_token(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^tls_(certificate|key)_path = .*$", "", describe())
    text += f'\n[pos.authority]\nid = "4341"\npublic_key = "{"30" * 91}"\n'
    settings = load(write(tmp_path, text))
    (tmp_path / "authority.pem").write_text("pem")
    assert settings.pos.authority is not None
    assert not [place for place in portable_files(settings) if place.startswith("pos.")]
    assert "authority" not in portable_table(settings)["pos"]


def test_the_table_is_the_shops_and_can_be_written_as_toml(tmp_path: Path) -> None:
    table = portable_table(load(write(tmp_path, describe())))
    assert not set(DEVICE_SECTIONS) & set(table)
    assert table["shop"]["owner"] == "corner-shop.example"

    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(plain(each) for each in value.values())
        if isinstance(value, list | tuple):
            return all(isinstance(each, str) for each in value)
        return isinstance(value, str | int | bool)

    assert plain(table)

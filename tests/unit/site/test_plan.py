"""`site.toml`: every fault at once with its place, and nothing in it that only the box may say."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from appliance.config.load import SettingsInvalid
from appliance.crypto import hpke
from provisioning.site.plan import FILES_MAX, Site, read_files, read_site

SHOP = """\
[shop]
name = "Bakery"
owner = "bakery.example"
currency = "EUR"
country = "DE"
timezone = "Europe/Berlin"
"""
RECOVERY = '[recovery]\nrecipient_path = "files/recovery.pub"\n'


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "recovery.pub").write_bytes(base64.b64encode(hpke.public_key_of(bytes(32))))
    return folder


def read(files: Path, text: str) -> Site:
    path = files.parent / "site.toml"
    path.write_text(text)
    return read_site(path, files=files)


def faults(files: Path, text: str) -> dict[str, str]:
    with pytest.raises(SettingsInvalid) as invalid:
        read(files, text)
    found = invalid.value.faults
    return {fault.place: "; ".join(f.reason for f in found if f.place == fault.place) for fault in found}


def test_a_site_has_the_words_of_the_settings_and_asks_dhcp_unless_told(files: Path) -> None:
    site = read(files, SHOP + RECOVERY + "[limits]\nbatch_sales_max = 7\n")
    assert site.shop("BOX-7").origin == "bakery.example/BOX-7/1"
    assert site.settings.limits.batch_sales_max == 7
    assert b"DHCP" not in site.network.networkd(), "what the image says of DHCP stays"
    assert site.sections["escrow"] == {"recipient_path": "files/recovery.pub"}


def test_every_fault_is_told_at_once(files: Path) -> None:
    text = SHOP.replace('"DE"', '"Germany"') + RECOVERY.replace("recovery.pub", "none.pub") + "[printer]\nspeed = 1\n"
    found = faults(files, text + '[network]\naddress = "192.0.2.10/24"\nspeed = 1\n')
    assert {"shop.country", "network.speed", "recovery.recipient_path", "printer.speed"} <= found.keys()


def test_a_site_without_a_recovery_recipient_is_refused(files: Path) -> None:
    assert "recovery.recipient_path" in faults(files, SHOP)


@pytest.mark.parametrize("section", ["storage", "hsm", "post_quantum", "note", "tpm"])
def test_what_only_the_box_knows_is_not_the_owners_to_say(files: Path, section: str) -> None:
    assert faults(files, SHOP + RECOVERY + f"[{section}]\n")[section] == "is the box's own to say"


def test_serial_and_tls_files_are_the_box_s(files: Path) -> None:
    text = SHOP + 'serial = "BOX-1"\n' + RECOVERY + '[pos]\ntls_key_path = "files/key"\n[pos.authority]\nid = "01"\n'
    assert {"shop.serial", "pos.tls_key_path", "pos.authority"} <= faults(files, text).keys()


@pytest.mark.parametrize("path", ["/etc/passwd", "../key", "files/../key", "files/a/b", "files/.hidden", "files/"])
def test_a_path_out_of_the_folder_of_files_is_refused(files: Path, path: str) -> None:
    text = SHOP + RECOVERY + f'[provider.stripe]\napi_key_path = "{path}"\n'
    assert "must lie in files/" in faults(files, text)["provider.stripe.api_key_path"]


def test_a_secret_that_others_may_read_is_refused(files: Path) -> None:
    (files / "key").touch(mode=0o644)
    (files / "key").write_text("sk_test\n")
    (files / "key").chmod(0o644)
    text = SHOP + RECOVERY + '[provider.stripe]\napi_key_path = "files/key"\n'
    reason = faults(files, text)["provider.stripe.api_key_path"]
    assert "chmod 0600" in reason
    assert "sk_test" not in reason


@pytest.mark.parametrize(
    ("network", "place"),
    [
        ('address = "192.0.2.10/24"\ndns = ["192.0.2.1"]', "network.gateway"),
        ('gateway = "192.0.2.1"', "network.gateway"),
        ('address = "192.0.2.10/24"\ngateway = "192.0.2.1"', "network.dns"),
        ('address = "192.0.2.10/24"\ngateway = "198.51.100.1"\ndns = ["192.0.2.1"]', "network.gateway"),
        ('address = "192.0.2.10/24"\ngateway = "192.0.2.10"\ndns = ["192.0.2.1"]', "network.gateway"),
        ('address = "192.0.2.10/99"\ngateway = "192.0.2.1"\ndns = ["192.0.2.1"]', "network.address"),
        ('dns = ["999.0.0.1"]', "network.dns"),
        ('ntp = ["time\\nDHCP=yes"]', "network.ntp"),
    ],
)
def test_a_network_that_cannot_work_is_refused(files: Path, network: str, place: str) -> None:
    assert place in faults(files, SHOP + RECOVERY + f"[network]\n{network}\n")


def test_networkd_is_told_of_a_fixed_address(files: Path) -> None:
    network = (
        '[network]\naddress = "2001:db8::5/64"\ngateway = "2001:db8::1"\ndns = ["2001:db8::1"]\nntp = ["t.example"]\n'
    )
    site = read(files, SHOP + RECOVERY + network)
    assert site.network.networkd().decode().splitlines()[1:] == [
        "[Network]",
        "DHCP=no",
        "Address=2001:db8::5/64",
        "Gateway=2001:db8::1",
        "DNS=2001:db8::1",
        "NTP=t.example",
    ]


def test_the_folder_of_files_is_bounded(files: Path) -> None:
    (files / "large").write_bytes(bytes(70_000))
    (files / "link").symlink_to("/etc/hostname")
    with pytest.raises(SettingsInvalid) as invalid:
        read_files(files)
    assert {fault.place for fault in invalid.value.faults} == {"files/large", "files/link"}
    for number in range(FILES_MAX):
        (files / f"{number}").touch()
    with pytest.raises(SettingsInvalid, match="holds more than"):
        read_files(files)

"""The file of settings: what loads, what is refused, and that nothing secret is said."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from appliance.config.describe import describe
from appliance.config.fields import fields_of
from appliance.config.load import RECIPIENT_KEY_BYTES, SettingsInvalid, load, read_secret
from appliance.config.schema import Provider, Settings
from appliance.crypto import hpke
from appliance.model.errors import Unavailable

SECRET_NAMES = (
    "pos-key.pem",
    "hsm-pin",
    "stripe-key",
    "bitcoin-credential",
    "anchor.key",
    "stripe-webhook-secret",
    "paypal-secret",
    "coinbase-key",
    "coinbase-webhook-secret",
    "pin-pad-password",
)

RECIPIENT_NAMES = ("recovery.key.pub", "auditor.pub")
RECIPIENT = hpke.public_key_of(bytes(hpke.SEED_BYTES))


def write(folder: Path, text: str) -> Path:
    for name in SECRET_NAMES:
        (folder / name).write_text("planted-secret\n")
        (folder / name).chmod(0o600)
    for name in RECIPIENT_NAMES:
        (folder / name).write_bytes(base64.b64encode(RECIPIENT) + b"\n")
    path = folder / "tillstone.toml"
    path.write_text(text)
    return path


def faults(path: Path) -> dict[str, str]:
    with pytest.raises(SettingsInvalid) as caught:
        load(path)
    return {fault.place: fault.reason for fault in caught.value.faults}


def uncommented() -> str:
    """The example with every setting in force."""
    return re.sub(r"(?m)^#(?=[a-z\[])", "", describe())


def test_example_loads_and_gives_the_defaults(tmp_path: Path) -> None:
    settings = load(write(tmp_path, describe()))
    assert settings.limits.unsigned_age_max_ms == 900_000
    assert settings.limits.unsigned_entries_max == 5_000
    assert settings.limits.clock_skew_max_ms == 300_000
    assert settings.storage.room_bytes_min == 256 * 1024 * 1024
    assert settings.shop.day_cutoff == "04:00"
    assert settings.pos.port == 8443
    assert settings.public.port == 9080
    assert settings.provider.stripe is None
    assert settings.otlp is None


def test_every_line_of_the_example_is_a_setting_that_exists(tmp_path: Path) -> None:
    assert set(faults(write(tmp_path, uncommented()))) == {"hsm.pin_path", "pos", "post_quantum"}


def test_example_with_every_compatible_setting_in_force_loads(tmp_path: Path) -> None:
    text = uncommented().replace("is_optional = false", "is_optional = true")
    text = text.replace('envelope_path = "ml-dsa.envelope"', "")
    text = re.sub(r"(?m)^tls_(certificate|key)_path = .*$", "", text)
    settings = load(write(tmp_path, text))
    assert settings.pos.authority is not None
    assert settings.provider.stripe is not None
    assert settings.post_quantum.token is not None


def test_the_handbook_lists_every_section() -> None:
    """`a.b` counts as `a`, but for providers, which have no table of their own."""
    text = (Path(__file__).parents[3] / "appliance/docs/operating.md").read_text()
    (listed,) = re.findall(r"(?s)^Sections: (.*?)\. Every unit", text, re.MULTILINE)
    names = set(re.findall(r"`([a-z_.]+)`", listed))
    providers = {f"provider.{field.name}" for field in fields_of(Provider)}
    expected = {field.name for field in fields_of(Settings)} - {"provider"} | providers
    assert names - {"hsm.classical", "hsm.kek"} == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the file cannot be read: No such file or directory"),
        (b"", "the file holds no recipient's public key"),
        (b"not base64", "the file holds no recipient's public key"),
        (base64.b64encode(bytes(hpke.SEED_BYTES)), "not the private key"),
        (base64.b64encode(RECIPIENT + b"1"), "the file holds no recipient's public key"),
    ],
)
@pytest.mark.parametrize(("place", "name"), [("escrow", "recovery.key.pub"), ("publication", "auditor.pub")])
def test_a_recipient_that_is_none_is_named_by_its_setting(
    tmp_path: Path, place: str, name: str, content: bytes | None, said: str
) -> None:
    more = f'\n[escrow]\nrecipient_path = "{name}"\n'
    if place == "publication":
        more = f'\n[publication]\napi_base = "http://127.0.0.1:5001"\nrecipient_path = "{name}"\n'
    path = write(tmp_path, describe() + more)
    load(path)
    assert len(RECIPIENT) == RECIPIENT_KEY_BYTES
    file = tmp_path / name
    file.unlink() if content is None else file.write_bytes(content)
    found = faults(path)
    assert list(found) == [f"{place}.recipient_path"]
    assert said in found[f"{place}.recipient_path"]


def test_relative_paths_are_relative_to_the_folder_of_the_file(tmp_path: Path) -> None:
    settings = load(write(tmp_path, describe()))
    assert settings.pos.tls_key_path == tmp_path / "pos-key.pem"
    assert settings.storage.genesis_path == tmp_path / "genesis.cbor"
    assert settings.storage.path == Path("/var/lib/tillstone")


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    text = describe().replace('currency = "EUR"', 'currency = "euro"').replace('serial = "TS-0001"', "")
    text = text.replace("#port = 8443", "port = 70000").replace("#is_announced = true", 'is_announced = "yes"')
    text = text.replace("[limits]", "[limits]\ncolour = 1")
    found = faults(write(tmp_path, text + "\n[shipping]\n"))
    assert set(found) == {
        "shop.currency",
        "shop.serial",
        "pos.port",
        "pos.is_announced",
        "limits.colour",
        "shipping",
    }
    assert "65535" in found["pos.port"]
    assert "unsigned_entries_max" in found["limits.colour"]


def test_empty_file_names_every_required_setting(tmp_path: Path) -> None:
    found = faults(write(tmp_path, ""))
    assert {"shop.name", "hsm.classical.id", "storage.path"} <= set(found)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('currency = "EUR"', 'currency = "ZZZ"', "shop.currency"),
        ('timezone = "Europe/Berlin"', 'timezone = "Europe/Atlantis"', "shop.timezone"),
        ('timezone = "Europe/Berlin"', 'timezone = "../../etc/passwd"', "shop.timezone"),
        ('#day_cutoff = "04:00"', 'day_cutoff = "24:00"', "shop.day_cutoff"),
        ('#day_cutoff = "04:00"', 'day_cutoff = "04:00\\n"', "shop.day_cutoff"),
        ('tls_key_path = "pos-key.pem"', 'tls_key_path = ""', "pos.tls_key_path"),
        ('#pin_path = "hsm-pin"', 'pin_path = "hsm-pin"', "hsm.pin_path"),
        ("[storage]", "[[storage]]", "storage"),
        ("#needed = 0", "needed = 1", "witnesses.needed"),
    ],
)
def test_a_wrong_value_is_refused_at_its_place(tmp_path: Path, old: str, new: str, place: str) -> None:
    assert old in describe()
    assert set(faults(write(tmp_path, describe().replace(old, new)))) == {place}


def test_a_fault_never_quotes_the_value(tmp_path: Path) -> None:
    text = (
        describe()
        .replace('currency = "EUR"', 'currency = "sk_live_planted"')
        .replace("#port = 8443", 'port = "sk_live_planted"')
    )
    assert "planted" not in repr(faults(write(tmp_path, text)))


def test_secret_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, describe())
    (tmp_path / "pos-key.pem").chmod(0o640)
    assert "0640" in faults(path)["pos.tls_key_path"]


def test_missing_or_empty_secret_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, describe())
    (tmp_path / "pos-key.pem").write_text("")
    assert "bytes" in faults(path)["pos.tls_key_path"]
    (tmp_path / "pos-key.pem").unlink()
    assert "cannot be read" in faults(path)["pos.tls_key_path"]


def test_pin_file_is_needed_without_a_tpm(tmp_path: Path) -> None:
    text = describe().replace("[tpm]", "#[tpm]")
    for name in ("tcti", "bundle_path", "policy_path"):
        text = re.sub(rf"(?m)^{name} = .*$", "", text)
    assert set(faults(write(tmp_path, text))) == {"hsm.pin_path"}
    settings = load(write(tmp_path, text.replace("#pin_path", "pin_path")))
    assert settings.hsm.pin_path == tmp_path / "hsm-pin"


@pytest.mark.parametrize("text", ["[shop", "a = 1\na = 2\n", "x = '" + "y" * 70_000 + "'"])
def test_what_is_not_toml_is_refused_as_a_whole(tmp_path: Path, text: str) -> None:
    assert set(faults(write(tmp_path, text))) == {"file"}


def test_missing_file_is_a_fault_not_a_traceback(tmp_path: Path) -> None:
    assert "cannot be read" in faults(tmp_path / "absent.toml")["file"]


def test_secret_is_read_without_its_last_newline(tmp_path: Path) -> None:
    write(tmp_path, "")
    assert read_secret(tmp_path / "hsm-pin").reveal() == b"planted-secret"


def test_secret_that_became_readable_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "")
    (tmp_path / "hsm-pin").chmod(0o644)
    with pytest.raises(Unavailable, match="0644"):
        read_secret(tmp_path / "hsm-pin")


PADS = """
[provider.pin_pad]
pads = ["counter tcp:192.168.1.50:20007", "bar serial:/dev/ttyUSB0"]
tills = ["till-1 counter", "till-2 counter", "till-3 bar"]
password_path = "pin-pad-password"
"""


def test_pin_pads_are_named_placed_and_bound(tmp_path: Path) -> None:
    pads = load(write(tmp_path, describe() + PADS)).provider.pin_pad
    assert pads is not None
    assert pads.places() == {"counter": "socket://192.168.1.50:20007", "bar": "/dev/ttyUSB0"}
    assert pads.bound() == {"till-1": "counter", "till-2": "counter", "till-3": "bar"}
    assert (pads.accepts_offline, pads.is_used_by_hand) == (False, False)


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        (('"bar serial', '"counter serial'), "provider.pin_pad.pads", "twice"),
        (("till-2", "till-1"), "provider.pin_pad.tills", "twice"),
        (("till-3 bar", "till-3 attic"), "provider.pin_pad.tills", "does not name"),
        (("tcp:192.168.1.50:20007", "socket://192.168.1.50:20007"), "provider.pin_pad.pads", "Expected"),
        (("serial:/dev/ttyUSB0", "serial:ttyUSB0"), "provider.pin_pad.pads", "Expected"),
        (('password_path = "pin-pad-password"', ""), "provider.pin_pad.password_path", "missing"),
        (("tills", "till"), "provider.pin_pad.till", "is not a setting"),
        (('"pin-pad-password"', '"pos-certificate.pem"'), "provider.pin_pad.password_path", "cannot be read"),
    ],
)
def test_a_fault_of_pin_pads_is_named_with_its_place(
    tmp_path: Path, change: tuple[str, str], place: str, words: str
) -> None:
    assert words in faults(write(tmp_path, describe() + PADS.replace(*change)))[place]


def test_pin_pads_take_currencies_whose_numbers_are_known(tmp_path: Path) -> None:
    text = describe().replace('currency = "EUR"', 'currency = "JPY"') + PADS
    assert "another currency" in faults(write(tmp_path, text))["provider.pin_pad.pads"]

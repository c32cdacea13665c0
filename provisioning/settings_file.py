"""Write `tillstone.toml` for a made box. Owns which setting says what; the schema owns what may be said.

Must never put a secret into the file, and never hands out a file that `appliance.config.load` would refuse.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from appliance.config.load import SettingsInvalid, load
from provisioning.box import HSM_LABEL, NOTE_ENVELOPE, Box, public_key_sha256
from provisioning.certificate import AUTHORITY, DoorFiles, TokenDoor
from provisioning.settings_extra import NAME as EXTRA
from provisioning.settings_extra import with_extra
from provisioning.terminal.durable import write_durably
from provisioning.token import AUTHORITY_KEY_ID, WRAPPING_KEY_ID

Value = str | int | bool | Path | list[str]
Sections = dict[str, dict[str, Value]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardProvider:
    """Where cards are charged and with which key file.

    Attributes:
        readers: card readers as "till-1 tmr_...".
        webhook_secret, webhook_port: the relay's door; without a secret there is none.
    """

    api_base: str
    api_key: Path
    account: str = ""
    readers: tuple[str, ...] = ()
    webhook_secret: Path | None = None
    webhook_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PayPalAccount:
    """Where PayPal answers, and the relay's door for its webhooks."""

    api_base: str
    client_id: str
    client_secret: Path
    webhook_id: str
    webhook_port: int
    certificate_name: str
    roots: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinbaseAccount:
    """Where Coinbase answers, and the relay's door for its webhooks."""

    api_base: str
    key_name: str
    key: Path
    webhook_secret: Path
    webhook_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PinPad:
    """One PIN pad for all tills. `place` as the settings write it."""

    name: str
    place: str
    tills: tuple[str, ...]
    password: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """TCP ports of the doors; 0 takes any free one."""

    pos: int
    public: int


def write_settings(
    box: Box,
    *,
    tcti: str,
    ports: Ports,
    door: DoorFiles | TokenDoor,
    cards: CardProvider | None,
    wallets: Iterable[PayPalAccount | CoinbaseAccount] = (),
    pin_pad: PinPad | None = None,
    room_bytes_min: int,
    further: Sections | None = None,
    name: str | None = None,
) -> Path:
    """Write the file, with `further` sections and those of `extra.toml`, and read it back.

    Args:
        name: of the file in the box's folder, when it is not the one that the process reads.
    Raises:
        SettingsInvalid: the process would refuse it.
    """
    shop = box.shop
    sections: Sections = {
        "shop": {name: value for name, value in asdict(shop).items() if name != "generation"},
        **_door_sections(box, door, {"host": "127.0.0.1", "port": ports.pos, "is_announced": False}),
        "public": {"host": "127.0.0.1", "port": ports.public},
        **_device_sections(box, tcti),
        "log": {"format": "json"},
    }
    sections["storage"]["room_bytes_min"] = room_bytes_min
    if cards is not None:
        sections.update(_card_sections(cards))
    for wallet in wallets:
        sections.update(_paypal_sections(wallet) if isinstance(wallet, PayPalAccount) else _coinbase_sections(wallet))
    sections.update({} if pin_pad is None else _pin_pad_sections(pin_pad))
    sections.update(further or {})
    merged = with_extra(sections, box.folder)
    path = box.settings if name is None else box.folder / name
    write_durably(path, _toml(merged).encode())
    try:
        load(path)
    except SettingsInvalid as refusal:
        if merged == sections:
            raise
        raise SettingsInvalid(box.folder / EXTRA, refusal.faults) from refusal
    return path


def _tpm_section(box: Box, tcti: str) -> dict[str, Value]:
    return {
        "tcti": tcti,
        "bundle_path": box.folder / "tpm-bundle.json",
        "policy_path": box.folder / "pcr-policy.json",
        "certificate_path": box.attestation,
    }


def door_files(door: DoorFiles | TokenDoor) -> dict[str, Value]:
    """What `[pos]` says of a door that goes by files; nothing of one whose authority is in the token."""
    if isinstance(door, TokenDoor):
        return {}
    return {"tls_certificate_path": door.certificate, "tls_key_path": door.key}


def _door_sections(box: Box, door: DoorFiles | TokenDoor, pos: dict[str, Value]) -> Sections:
    if isinstance(door, DoorFiles):
        return {"pos": {**pos, **door_files(door)}}
    authority: dict[str, Value] = {
        "id": AUTHORITY_KEY_ID.hex(),
        "public_key": (box.keys.authority_public or b"").hex(),
        "certificate_path": door.authority,
    }
    return {"pos": pos, "pos.authority": authority}


def write_restored(box: Box, *, tcti: str, table: dict[str, Any], files: Mapping[str, Path]) -> Path:
    """Write the file of a box that takes over another one's shop, and read it back.

    Args:
        table: the other one's settings, without what names its devices (`appliance/config/portable.py`).
        files: where the files that they name lie now, by the setting's place.
    Raises:
        SettingsInvalid: the process would refuse it.
    """
    sections = dict(_flat(table, "", files)) | _device_sections(box, tcti)
    if "tls_certificate_path" not in sections["pos"]:
        # The other one's door went by an authority in its token, so this one's goes by its own.
        sections |= _door_sections(box, TokenDoor(authority=box.folder / "tls" / AUTHORITY), sections["pos"])
    text = _toml(sections).partition("\n\n")[2]
    write_durably(box.settings, f"# Restored from a backup, with this box's own devices.\n\n{text}".encode())
    load(box.settings)
    return box.settings


def _flat(table: dict[str, Any], place: str, files: Mapping[str, Path]) -> Iterator[tuple[str, dict[str, Value]]]:
    """Each section under its full name, with the files where they lie now."""
    own = {name: value for name, value in table.items() if not isinstance(value, dict)}
    if place:
        yield place, {name: files.get(f"{place}.{name}", value) for name, value in own.items()}
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{place}.{name}" if place else name, files)


def _device_sections(box: Box, tcti: str) -> Sections:
    """What names this box's own disk, token, keys and TPM."""
    keys = box.keys
    sections: Sections = {
        "storage": {"path": box.data, "genesis_path": box.folder / "genesis.cbor", "trust_path": box.trust},
        "hsm": {"module_path": box.module, "token_label": HSM_LABEL},
        "hsm.classical": {"id": keys.classical_id.hex(), "public_key_sha256": public_key_sha256(keys.classical_public)},
        "hsm.kek": {"id": WRAPPING_KEY_ID.hex()},
        "post_quantum": {"envelope_path": box.folder / "ml-dsa.envelope"},
        "tpm": _tpm_section(box, tcti),
    }
    if keys.wrapping_public is not None:
        sections["hsm.kek"]["public_key_sha256"] = public_key_sha256(keys.wrapping_public)
    if keys.note is not None:
        sections["note"] = {"envelope_path": box.folder / NOTE_ENVELOPE}
    return sections


def _pin_pad_sections(pin_pad: PinPad) -> Sections:
    return {
        "provider.pin_pad": {
            "pads": [f"{pin_pad.name} {pin_pad.place}"],
            "tills": [f"{till} {pin_pad.name}" for till in pin_pad.tills],
            "password_path": pin_pad.password,
            "accepts_offline": True,
        }
    }


def _paypal_sections(paypal: PayPalAccount) -> Sections:
    return {
        "provider.paypal": {
            "api_base": paypal.api_base,
            "client_id": paypal.client_id,
            "client_secret_path": paypal.client_secret,
        },
        "provider.paypal.webhooks": {
            "webhook_id": paypal.webhook_id,
            "port": paypal.webhook_port,
            "certificate_base": paypal.api_base,
            "certificate_name": paypal.certificate_name,
            "roots_path": paypal.roots,
        },
    }


def _coinbase_sections(coinbase: CoinbaseAccount) -> Sections:
    return {
        "provider.coinbase": {
            "api_base": coinbase.api_base,
            "key_name": coinbase.key_name,
            "key_path": coinbase.key,
        },
        "provider.coinbase.webhooks": {"secret_path": coinbase.webhook_secret, "port": coinbase.webhook_port},
    }


def _card_sections(cards: CardProvider) -> Sections:
    sections: Sections = {
        "provider.stripe": {
            "api_base": cards.api_base,
            "api_key_path": cards.api_key,
            "payment_source_default": "pm_card_visa",
            "account": cards.account,
            "readers": list(cards.readers),
        }
    }
    if cards.webhook_secret is not None:
        sections["provider.stripe.webhooks"] = {"secret_path": cards.webhook_secret, "port": cards.webhook_port}
    return sections


def _toml(sections: Sections) -> str:
    lines = [
        "# Written when a box is made, and at every start of a sandbox; `appliance/config/schema.py` explains it.",
        f"# What {EXTRA} beside it says is merged in and wins; that file is yours.",
    ]
    for name, values in sections.items():
        lines += ["", f"[{name}]", *(f"{key} = {_literal(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _literal(value: Value) -> str:
    """A TOML basic string escapes like JSON does; integers and booleans are spelt the same."""
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)

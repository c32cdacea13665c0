"""`site.toml`: what the owner decides about one shop, in the words of `tillstone.toml` as far as these go.

Owns what may stand in it. Must never let it say what only the box knows: keys, token, TPM, serial, folders.

* `[network]` and `[recovery]` are its own; every other section is the process's, and the process's own loader reads it
  here, beside stand-ins for what the box adds. So whatever passes here starts there.
* Files that it names lie in `files/` beside it: secrets with mode 0600, and public keys.
* Every fault is told at once, with its place.

Source: docs/formats/site.md.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta

from appliance.config.load import Fault, SettingsInvalid, read_toml, section_from, settings_from
from appliance.config.schema import Settings, Shop
from appliance.config.section import RECIPIENT_FILE, Section
from provisioning.box import ShopFacts
from provisioning.site.network import Network

NAME: Final = "site.toml"
FILES: Final = "files"
FILE_BYTES_MAX: Final = 64 << 10
FILES_MAX: Final = 32
_OF_THE_BOX: Final = ("storage", "hsm", "post_quantum", "note", "tpm")
_OF_THE_BOX_IN: Final = {
    "shop": ("serial", "generation"),
    "pos": ("tls_certificate_path", "tls_key_path", "authority"),
}


class Recovery(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who opens what outlives a lost box."""

    recipient_path: Annotated[
        Path,
        Meta(
            description="The recovery public key, as `tillstone owner recovery-key` wrote it.",
            extra=RECIPIENT_FILE,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A `site.toml` without a fault.

    Attributes:
        sections: for `tillstone.toml`, as they stand in the file; `files/NAME` stays relative.
        settings: the same, read; with stand-ins where the box fills in.
    """

    sections: dict[str, dict[str, Any]]
    network: Network
    recovery: str
    settings: Settings

    def shop(self, serial: str) -> ShopFacts:
        """Who sells, at the box of this serial number."""
        shop: Shop = self.settings.shop
        return ShopFacts(
            name=shop.name,
            owner=shop.owner,
            serial=serial,
            currency=shop.currency,
            country=shop.country,
            timezone=shop.timezone,
        )


def read_site(path: Path, *, files: Path) -> Site:
    """The site of the file at `path`, with the files it names in the folder `files`.

    Raises:
        SettingsInvalid: with every fault.
    """
    table = read_toml(path)
    faults = [Fault(place=key, reason="stands in no [section]") for key, value in table.items() if not _is_table(value)]
    own = {name: table.pop(name, {}) for name in ("network", "recovery")}
    for name in _OF_THE_BOX:
        if name in table:
            faults.append(Fault(place=name, reason="is the box's own to say"))
    for section, names in _OF_THE_BOX_IN.items():
        said = table.get(section)
        faults += [
            Fault(place=f"{section}.{name}", reason="is the box's own to say")
            for name in names
            if isinstance(said, dict) and name in said
        ]
    faults += list(_outside(table, "")) + list(_outside(own, ""))
    with tempfile.TemporaryDirectory() as place:
        beside = Path(place) / path.name
        (Path(place) / FILES).symlink_to(files.resolve())
        network, found = section_from(Network, _table(own["network"]), beside)
        faults += _under("network", found) if network is None else network.faults()
        recovery, found = section_from(Recovery, _table(own["recovery"]), beside)
        faults += _under("recovery", found)
        settings = _settings(table, beside, faults)
    if faults or settings is None or network is None or recovery is None:
        raise SettingsInvalid(path, tuple(faults))
    recipient = str(own["recovery"]["recipient_path"])
    sections = dict(table)
    for name in ("escrow", "backup"):
        sections.setdefault(name, {"recipient_path": recipient})
    return Site(sections=sections, network=network, recovery=recipient, settings=settings)


def read_files(folder: Path) -> dict[str, bytes]:
    """What lies in `files/`, by name. Raises SettingsInvalid."""
    if not folder.is_dir():
        return {}
    found: dict[str, bytes] = {}
    faults: list[Fault] = []
    paths = sorted(folder.iterdir())
    if len(paths) > FILES_MAX:
        faults.append(Fault(place=FILES, reason=f"holds more than {FILES_MAX} files"))
    for path in paths[:FILES_MAX]:
        if not path.is_file() or path.is_symlink():
            faults.append(Fault(place=f"{FILES}/{path.name}", reason="is not a regular file"))
        elif path.stat().st_size > FILE_BYTES_MAX:
            faults.append(Fault(place=f"{FILES}/{path.name}", reason=f"is larger than {FILE_BYTES_MAX} bytes"))
        else:
            found[path.name] = path.read_bytes()
    if faults:
        raise SettingsInvalid(folder, tuple(faults))
    return found


def _settings(table: dict[str, Any], beside: Path, faults: list[Fault]) -> Settings | None:
    """What the process will be told, with stand-ins; adds what it would refuse to `faults`."""
    stand_in = beside.with_name("stand-in")
    stand_in.touch(mode=0o600)
    stand_in.write_bytes(b"\n")
    digest = "00" * 32
    full = {name: value for name, value in table.items() if name not in _OF_THE_BOX}
    full |= {
        "shop": {**_without(table, "shop"), "serial": "BOX"},
        "pos": {**_without(table, "pos"), "tls_certificate_path": "stand-in", "tls_key_path": "stand-in"},
        "storage": {"path": "data"},
        "hsm": {
            "module_path": "stand-in",
            "token_label": "stand-in",
            "classical": {"id": "01", "public_key_sha256": digest},
            "kek": {"id": "02"},
        },
        "post_quantum": {"envelope_path": "stand-in"},
        "tpm": {"tcti": "device:/dev/tpmrm0", "bundle_path": "stand-in", "policy_path": "stand-in"},
    }
    try:
        return settings_from(full, beside)
    except SettingsInvalid as refusal:
        faults += refusal.faults
        return None


def _without(table: dict[str, Any], section: str) -> dict[str, Any]:
    return {k: v for k, v in _table(table.get(section)).items() if k not in _OF_THE_BOX_IN[section]}


def _outside(table: dict[str, Any], place: str) -> tuple[Fault, ...]:
    """A path out of `files/` would name another file on the box than on the owner's computer."""
    found: list[Fault] = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += _outside(value, f"{place}{key}.")
        elif key.endswith("_path") and isinstance(value, str):
            folder, _, name = value.partition("/")
            if folder != FILES or not name or "/" in name or name.startswith("."):
                found.append(Fault(place=f"{place}{key}", reason=f"must lie in {FILES}/, beside site.toml"))
    return tuple(found)


def _under(section: str, faults: tuple[Fault, ...]) -> list[Fault]:
    return [Fault(place=f"{section}.{fault.place}", reason=fault.reason) for fault in faults]


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_table(value: object) -> bool:
    return isinstance(value, dict)

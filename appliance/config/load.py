"""Reading `tillstone.toml`: every fault at once, each with its place and reason; unknown keys are refused.

The file is the only source: no environment variable overrides a setting. Relative paths are relative to the file's own
folder. Never reads a secret while loading (`read_secret` does that, when it is needed) and never quotes a value in a
fault, because the value may be a secret that somebody pasted into the wrong place.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
import tomllib
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from typing_extensions import override

from appliance.config.fields import Field, fields_of
from appliance.config.schema import Settings
from appliance.config.secret import Secret
from appliance.config.section import Section
from appliance.model.errors import Rejected, Unavailable
from appliance.model.money import EXPONENTS

S = TypeVar("S", bound=Section)
_FILE_BYTES_MAX: Final = 64 * 1024
_SECRET_BYTES_MAX: Final = 8 * 1024
RECIPIENT_KEY_BYTES: Final = 1568 + 97
"""ML-KEM-1024 and an uncompressed point of P-384, as `crypto/hpke.py` reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong at one place: `place` is a dotted key such as `hsm.classical.id`."""

    place: str
    reason: str

    @override
    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class SettingsInvalid(Rejected):
    """The file cannot be used; `faults` lists everything wrong with it."""

    def __init__(self, path: Path, faults: tuple[Fault, ...]) -> None:
        super().__init__("settings_invalid", f"{path}: " + "; ".join(str(fault) for fault in faults))
        self.path = path
        self.faults = faults


def load(path: Path) -> Settings:
    """The settings of the file at `path`, with absolute paths.

    Raises:
        SettingsInvalid: with every fault of the file.
    """
    return settings_from(read_toml(path), path)


def settings_from(table: dict[str, Any], path: Path) -> Settings:
    """The settings that `table` says, as if it stood in the file at `path`. Raises SettingsInvalid with every fault."""
    reader = _Reader(path.resolve().parent)
    values = reader.section(Settings, table, "")
    if reader.faults:
        raise SettingsInvalid(path, tuple(reader.faults))
    settings = Settings(**values)
    faults = (*_across(settings), *reader.file_faults())
    if faults:
        raise SettingsInvalid(path, faults)
    return settings


def section_from(shape: type[S], table: dict[str, Any], path: Path) -> tuple[S | None, tuple[Fault, ...]]:
    """One section of another file than the settings, read by the same rules: the section, or what is wrong with it."""
    reader = _Reader(path.resolve().parent)
    values = reader.section(shape, table, "")
    faults = tuple(reader.faults) or reader.file_faults()
    return (None, faults) if faults else (shape(**values), ())


def read_secret(path: Path) -> Secret:
    """The content of a secret file without its last newline. Raises Unavailable with the reason, never the content."""
    fault = _secret_fault(path)
    if fault:
        raise Unavailable("secret_file_unusable", f"{path} {fault}")
    return Secret(path.read_bytes().removesuffix(b"\n"))


def read_toml(path: Path) -> dict[str, Any]:
    """The file as TOML, bounded. Raises SettingsInvalid."""
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(path, (Fault(place="file", reason=f"cannot be read: {error.strerror}"),)) from error
    if len(octets) > _FILE_BYTES_MAX:
        raise SettingsInvalid(path, (Fault(place="file", reason=f"is larger than {_FILE_BYTES_MAX} bytes"),))
    try:
        return tomllib.loads(octets.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(path, (Fault(place="file", reason=f"is not TOML in UTF-8: {error}"),)) from error


class _Reader:
    """Walks the schema beside the parsed file and collects what does not fit."""

    def __init__(self, folder: Path) -> None:
        self.faults: list[Fault] = []
        self._folder = folder
        self._files: list[tuple[str, Path, Callable[[Path], str]]] = []

    def section(self, shape: type[Section], table: dict[str, Any], place: str) -> dict[str, Any]:
        """Values for the constructor of `shape`; defaults are left to it. What is wrong goes to `faults`."""
        fields = {field.name: field for field in fields_of(shape)}
        for key in table.keys() - fields.keys():
            self._fault(f"{place}{key}", "is not a setting; known here: " + ", ".join(fields))
        values: dict[str, Any] = {}
        for name, field in fields.items():
            if name in table:
                values[name] = self._value(field, table[name], f"{place}{name}")
            elif field.is_required and field.section is not None:
                # Descend into a missing section too, so that its required settings are named in the same run.
                values[name] = self._value(field, {}, f"{place}{name}")
            elif field.is_required:
                self._fault(f"{place}{name}", f"is missing. {field.description}")
            elif isinstance(field.default, Path):
                values[name] = self._folder / field.default
        return values

    def file_faults(self) -> tuple[Fault, ...]:
        """One fault for each secret file that others may read, recipient's file that holds none, or missing one."""
        checked = ((place, fault_of(path)) for place, path, fault_of in self._files)
        return tuple(Fault(place=place, reason=f"the file {reason}") for place, reason in checked if reason)

    def _value(self, field: Field, value: object, place: str) -> object:
        if field.section is not None:
            if not isinstance(value, dict):
                self._fault(place, "expected a table")
                return None
            count = len(self.faults)
            values = self.section(field.section, value, f"{place}.")
            return field.section(**values) if len(self.faults) == count else None
        try:
            converted: object = msgspec.convert(value, field.annotation, dec_hook=self._path)
        except msgspec.ValidationError as error:
            self._fault(place, f"{str(error).split(' - at')[0]}. {field.description}")
            return None
        if field.holds_secret and isinstance(converted, Path):
            self._files.append((place, converted, _secret_fault))
        if field.holds_recipient and isinstance(converted, Path):
            self._files.append((place, converted, _recipient_fault))
        return converted

    def _path(self, shape: type, value: object) -> Path:
        if shape is not Path or not isinstance(value, str) or not value or "\0" in value:
            raise ValueError("Expected a path")
        return Path(os.path.normpath(self._folder / value))

    def _fault(self, place: str, reason: str) -> None:
        self.faults.append(Fault(place=place, reason=reason))


def _secret_fault(path: Path) -> str:
    """Why the file at `path` is not fit to hold a secret; empty when it is."""
    try:
        status = path.stat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_mode & 0o077:
        return f"has mode {stat.S_IMODE(status.st_mode):04o}; only its owner may read it: chmod 0600"
    if not 0 < status.st_size <= _SECRET_BYTES_MAX:
        return f"must hold 1 to {_SECRET_BYTES_MAX} bytes"
    return ""


def _recipient_fault(path: Path) -> str:
    """Why the file at `path` is no recipient's public key; empty when it looks like one."""
    try:
        with path.open("rb") as file:
            octets = base64.b64decode(file.read(_SECRET_BYTES_MAX).strip(), validate=True)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except binascii.Error:
        octets = b""
    if len(octets) != RECIPIENT_KEY_BYTES:
        return "holds no recipient's public key; it is the file that ends in .pub, not the private key"
    return ""


def _across(settings: Settings) -> tuple[Fault, ...]:
    """Rules that tie two settings together, or a setting to a table of the world."""
    hsm, tpm, key, pos = settings.hsm, settings.tpm, settings.post_quantum, settings.pos
    is_sealed = tpm is not None and not tpm.is_optional
    rules = (
        (settings.shop.currency in EXPONENTS, "shop.currency", "is not an ISO 4217 code that we know"),
        (_is_zone(settings.shop.timezone), "shop.timezone", "is not an IANA zone, such as Europe/Berlin"),
        (is_sealed or hsm.pin_path is not None, "hsm.pin_path", "is needed where no TPM must be there to give the PIN"),
        (
            not is_sealed or hsm.pin_path is None,
            "hsm.pin_path",
            "must go: the TPM seals the PIN, a file would undo that",
        ),
        (
            (key.token is None) != (key.envelope_path is None),
            "post_quantum",
            "needs exactly one of envelope_path and token",
        ),
        (
            (pos.authority is None) == (pos.tls_certificate_path is not None)
            and (pos.tls_certificate_path is None) == (pos.tls_key_path is None),
            "pos",
            "needs tls_certificate_path and tls_key_path, or pos.authority in place of both",
        ),
        (
            settings.witnesses.needed <= len(settings.witnesses.named),
            "witnesses.needed",
            "is more than witnesses.named has",
        ),
    )
    faults = [Fault(place=place, reason=reason) for holds, place, reason in rules if not holds]
    pads = settings.provider.pin_pad
    for name, reason in () if pads is None else pads.faults(settings.shop.currency):
        faults.append(Fault(place=f"provider.pin_pad.{name}", reason=reason))
    return tuple(faults)


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True

"""What of the settings belongs to the shop and moves with it to another box: all but what names this box's devices.

Owns the choice. Must never read what a file holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.config.fields import fields_of
from appliance.config.schema import Settings
from appliance.config.section import Section

DEVICE_SECTIONS: Final = ("storage", "hsm", "post_quantum", "note", "tpm")
"""Each box has its own: where it keeps things, its token, its TPM, its keys."""
AUTHORITY_FILES: Final = ("authority.pem", "authority-key.pem")
"""Beside the door's certificate, where they are: terminals pinned this authority, and it signs the next certificate."""


def portable_table(settings: Settings) -> dict[str, Any]:
    """The settings as the file would say them, defaults written out; paths as text."""
    table: dict[str, Any] = msgspec.to_builtins(settings, enc_hook=str)
    table["pos"].pop("authority")  # a key of the token
    return {name: _without_none(value) for name, value in table.items() if name not in DEVICE_SECTIONS and value}


def portable_files(settings: Settings) -> dict[str, Path]:
    """The files that those settings name, by the setting's place; `pos.` and a name for the door's authority.

    A file of the operating system that a default names is none: another box has its own.
    """
    named = {
        place: path
        for place, path in _paths(settings, "")
        if path.is_file() and place.partition(".")[0] not in DEVICE_SECTIONS and not place.startswith("pos.authority.")
    }
    certificate = settings.pos.tls_certificate_path
    beside = {} if certificate is None else {f"pos.{name}": certificate.with_name(name) for name in AUTHORITY_FILES}
    return named | {place: path for place, path in beside.items() if path.is_file()}


def _paths(section: Section, place: str) -> Iterator[tuple[str, Path]]:
    for field in fields_of(type(section)):
        value = getattr(section, field.name)
        if isinstance(value, Section):
            yield from _paths(value, f"{place}{field.name}.")
        elif isinstance(value, Path) and value != field.default:
            yield f"{place}{field.name}", value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(each) for name, each in value.items() if each is not None}
    return value

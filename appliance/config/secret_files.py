"""Every file that the settings name and that holds a secret: what a retired box must not keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from appliance.config.fields import fields_of
from appliance.config.section import Section


def secret_files(section: Section) -> Iterator[Path]:
    """The paths under `section`, in the order in which they are written."""
    for field in fields_of(type(section)):
        value = getattr(section, field.name)
        if isinstance(value, Section):
            yield from secret_files(value)
        elif field.holds_secret and isinstance(value, Path):
            yield value

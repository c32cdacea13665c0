"""`extra.toml` beside the settings that are written for a box: what its keeper adds, merged in at every write.

Owns the merge. Must never write the file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from appliance.config.load import Fault, SettingsInvalid

NAME = "extra.toml"


def with_extra(sections: dict[str, dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """`sections` with those of the file in `folder`, whose values win; `a.b` names a section within a section.

    Raises:
        SettingsInvalid: the file cannot be read. Whether its settings are known and right is the loader's to say.
    """
    file = folder / NAME
    if not file.exists():
        return sections
    try:
        extra = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        raise SettingsInvalid(file, (Fault(place="file", reason=f"is not TOML in UTF-8: {cause}"),)) from cause
    if outside := [key for key, value in extra.items() if not isinstance(value, dict)]:
        raise SettingsInvalid(file, tuple([Fault(place=key, reason="stands in no [section]") for key in outside]))
    merged = {name: dict(values) for name, values in sections.items()}
    for name, values in flat(extra, "")[1:]:
        merged.setdefault(name, {}).update(values)
    return merged


def flat(table: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    """Every table in `table`, itself first, by its dotted name, without the tables in it."""
    own = {key: value for key, value in table.items() if not isinstance(value, dict)}
    found = [(name, own)]
    for key, value in table.items():
        if isinstance(value, dict):
            found += flat(value, f"{name}.{key}" if name else key)
    return found

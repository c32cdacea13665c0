"""The commented example of `tillstone.toml`, made from the schema so that the two cannot differ.

A line `#name = value` is a setting with its default or an example; a line `# words` explains.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import msgspec

from appliance.config.fields import Field, fields_of
from appliance.config.schema import Settings
from appliance.config.section import Section
from appliance.model.invariants import ensure

_HEAD = """\
# Settings of the Tillstone process. Lines without "#" must be set; "#name = value" shows a default or an example.
# Relative paths are relative to this file's folder. Secrets are never written here: they are files with mode 0600.
"""


def describe() -> str:
    """The whole example, ready to be saved as `tillstone.toml`."""
    return _HEAD + "".join(_table(field, field.name, "") for field in fields_of(Settings))


def _table(field: Field, path: str, mark: str) -> str:
    ensure(field.section is not None, f"{path} is a table")
    section = field.section or Section
    mark = mark or ("#" if field.is_nullable and not field.is_in_example else "")
    members = fields_of(section)
    lines = ["", *_comment((section.__doc__ or "").strip()), f"{mark}[{path}]"]
    for member in members:
        if member.section is None:
            lines += _setting(member, mark)
    text = "\n".join(lines) + "\n"
    return text + "".join(_table(member, f"{path}.{member.name}", mark) for member in members if member.section)


def _setting(field: Field, mark: str) -> list[str]:
    value = field.default
    if field.is_required or value is None or value == "":
        examples = next((meta.examples for meta in reversed(field.metas) if meta.examples), None)
        value = examples[0] if examples else value
    ensure(
        value is not None and value is not msgspec.NODEFAULT, f"the setting {field.name} has a default or an example"
    )
    words = field.description + _range(field)
    return [
        *_comment(words),
        f"{mark if field.is_required or field.is_in_example else '#'}{field.name} = {_toml(value)}",
    ]


def _range(field: Field) -> str:
    low = next((meta.ge for meta in field.metas if meta.ge is not None), None)
    high = next((meta.le for meta in field.metas if meta.le is not None), None)
    return f" Range {low} to {high}." if low is not None and high is not None else ""


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), width=116)]


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(member) for member in value) + "]"
    # A JSON string of printable characters is a TOML basic string; numbers and booleans look alike in both.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)

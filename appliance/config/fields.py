"""Reading the schema: what a field of a section is, for `load.py` and `describe.py` alike."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass

import msgspec

from appliance.config.section import Section
from appliance.model.invariants import ensure


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One setting, or one nested section.

    Attributes:
        annotation: the type with its bounds, as msgspec checks it.
        section: the nested section's class, or None for a plain value.
        is_nullable: whether the setting may be absent without a default value taking its place.
        default: meaningless when `is_required`.
    """

    name: str
    annotation: object
    section: type[Section] | None
    is_required: bool
    is_nullable: bool
    default: object
    metas: tuple[msgspec.Meta, ...]

    @property
    def description(self) -> str:
        return next((meta.description for meta in reversed(self.metas) if meta.description), "")

    @property
    def holds_secret(self) -> bool:
        return self._is_marked("secret_file")

    @property
    def holds_recipient(self) -> bool:
        return self._is_marked("recipient_file")

    @property
    def is_in_example(self) -> bool:
        return self._is_marked("in_example")

    def _is_marked(self, mark: str) -> bool:
        return any((meta.extra or {}).get(mark, False) for meta in self.metas)


def fields_of(section: type[Section]) -> tuple[Field, ...]:
    """The fields of a section in the order they are written."""
    return tuple(_field(info) for info in msgspec.structs.fields(section))


def _field(info: msgspec.structs.FieldInfo) -> Field:
    inner, metas = _unwrap(info.type)
    ensure(any(meta.description for meta in metas), f"the setting {info.name} has a description")
    members = typing.get_args(inner) if isinstance(inner, types.UnionType) or _is_union(inner) else (inner,)
    sections = [member for member in members if isinstance(member, type) and issubclass(member, Section)]
    return Field(
        name=info.name,
        annotation=info.type,
        section=sections[0] if sections else None,
        is_required=info.required,
        is_nullable=types.NoneType in members,
        default=info.default,
        metas=metas,
    )


def _unwrap(annotation: object) -> tuple[object, tuple[msgspec.Meta, ...]]:
    if typing.get_origin(annotation) is not typing.Annotated:
        return annotation, ()
    inner, *metas = typing.get_args(annotation)
    return inner, tuple(meta for meta in metas if isinstance(meta, msgspec.Meta))


def _is_union(annotation: object) -> bool:
    # `Annotated[...] | None` is a typing.Union, `str | None` a types.UnionType.
    return typing.get_origin(annotation) is typing.Union

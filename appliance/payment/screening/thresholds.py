"""Which thresholds hold: the settings file, changed by what the owner set since, each change an entry.

A name that a later release no longer knows, or a value that it no longer takes, is passed over: the file's holds then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from appliance.config.screening import Screening
from appliance.model.errors import Rejected
from appliance.wire.faults import explain

_FIXED: Final = frozenset({"model_path"})
"""What the box reads once, at its start."""
SETTABLE: Final = tuple(field.name for field in msgspec.structs.fields(Screening) if field.name not in _FIXED)


def changed(settings: Screening, changes: Mapping[str, int | str]) -> Screening:
    """`settings` with `changes`.

    Raises:
        Rejected: `threshold_unknown`, `threshold_invalid`; the message names the setting and its bounds.
    """
    unknown = sorted(set(changes) - set(SETTABLE))
    if unknown:
        raise Rejected("threshold_unknown", f"expected one of {', '.join(SETTABLE)}")
    plain = msgspec.to_builtins(settings, builtin_types=())
    path = plain.pop("model_path", None)
    try:
        after = msgspec.convert({**plain, **changes}, Screening)
    except msgspec.ValidationError as fault:
        raise Rejected("threshold_invalid", explain(fault)) from None
    return msgspec.structs.replace(after, model_path=None if path is None else settings.model_path)


def still_valid(settings: Screening, changes: Mapping[str, int | str]) -> Screening:
    """`settings` with those of the recorded `changes` that this release takes."""
    for name, value in changes.items():
        try:
            settings = changed(settings, {name: value})
        except Rejected:
            continue
    return settings

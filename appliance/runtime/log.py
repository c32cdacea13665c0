"""Structured log lines for people: an event and bounded fields, redacted by type.

The ledger is the record; nothing ever parses these lines to obtain it. A line never holds a secret: what may be shown
is decided by the type of a value, and a type nobody vouched for is shown as its name only.

    log.info("payment.signed", key=label, took_ms=12)
    {"time":"2026-11-23T19:16:00.123Z","level":"info","event":"payment.signed","key":"…","took_ms":12}
"""

from __future__ import annotations

import enum
import hashlib
import re
import traceback
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Final

import msgspec

from appliance.config.secret import PLACEHOLDER, Secret
from appliance.model.errors import TillstoneError
from appliance.model.ids import RequestKey
from appliance.model.invariants import ensure
from appliance.model.money import Money
from appliance.ports.clock import Clock

TEXT_CHARACTERS_MAX: Final = 200
BYTES_SHOWN_MAX: Final = 32
"""A hash or an identifier fits; longer bytes are content and show as a hash of themselves."""
FIELDS_MAX: Final = 16
FRAMES_MAX: Final = 5
_EVENT: Final = re.compile(r"\A[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\Z")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

Shown = str | int | float | bool | None


class Level(enum.IntEnum):
    """Error: someone must act. Warning: we coped. Info: one line per payment or device transition."""

    INFO = 20
    WARNING = 30
    ERROR = 40


class Log:
    """Writes events at or above one level to one sink; `bind` makes a log that adds fields to each line.

    Args:
        sink: takes one finished line with its newline; must neither block nor raise (`line_writer.py`).
        layout: turns the ordered fields into a line: `as_json` or `as_console`.
    """

    __slots__ = ("_bound", "_clock", "_layout", "_level", "_sink")

    def __init__(
        self,
        *,
        sink: Callable[[str], None],
        clock: Clock,
        level: Level = Level.INFO,
        layout: Callable[[Mapping[str, Shown]], str] | None = None,
        bound: Mapping[str, Shown] | None = None,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._level = level
        self._layout = layout or as_json
        self._bound = bound or {}

    def bind(self, **fields: object) -> Log:
        """A log that carries `fields` on every line."""
        bound = {**self._bound, **{name: shown(value) for name, value in fields.items()}}
        return Log(sink=self._sink, clock=self._clock, level=self._level, layout=self._layout, bound=bound)

    def info(self, event: str, /, **fields: object) -> None:
        self._write(Level.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self._write(Level.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        self._write(Level.ERROR, event, fields)

    def _write(self, level: Level, event: str, fields: Mapping[str, object]) -> None:
        if level < self._level:
            return
        ensure(_EVENT.match(event) is not None, "an event is named noun.past_verb")
        line: dict[str, Shown] = {"time": _time(self._clock.now_ms()), "level": level.name.lower(), "event": event}
        line.update(self._bound)
        for name, value in list(fields.items())[:FIELDS_MAX]:
            # A field may not pose as the head of the line.
            line[f"{name}_" if name in ("time", "level", "event") else name] = shown(value)
        if len(fields) > FIELDS_MAX:
            line["fields_dropped"] = len(fields) - FIELDS_MAX
        self._sink(self._layout(line))


def as_json(line: Mapping[str, Shown]) -> str:
    """One JSON object on one line."""
    return msgspec.json.encode(line).decode() + "\n"


def as_console(line: Mapping[str, Shown]) -> str:
    """For eyes: time of day, a mark for the level, the event, then name=value."""
    mark = {"info": " ", "warning": "!", "error": "X"}[str(line["level"])]
    fields = " ".join(f"{name}={value}" for name, value in line.items() if name not in ("time", "level", "event"))
    return f"{str(line['time'])[11:23]} {mark} {line['event']:<28} {fields}".rstrip() + "\n"


def shown(value: object) -> Shown:
    """What a log may show of `value`, by its type alone."""
    match value:
        case None | bool() | float():
            return value
        case enum.Enum():
            return _cut(value.name.lower())
        case int():
            # Beyond 64 bits a number is key material or nonsense, and no reader of JSON takes it.
            return int(value) if -(2**63) <= value < 2**63 else f"[{value.bit_length()}-bit integer]"
        case str():
            return _cut(value)
        case bytes() | bytearray() | memoryview():
            return _octets(bytes(value))
        case Secret():
            return PLACEHOLDER
        case uuid.UUID() | RequestKey() | Money() | PurePath():
            return _cut(str(value))
        case BaseException():
            return _cut(_error(value), 2 * TEXT_CHARACTERS_MAX)
        case _:
            return f"[{type(value).__name__}]"


def _octets(value: bytes) -> str:
    if len(value) <= BYTES_SHOWN_MAX:
        return value.hex()
    return f"sha256:{hashlib.sha256(value).hexdigest()[:16]} ({len(value)} bytes)"


def _error(error: BaseException) -> str:
    """Our own errors speak for themselves; a foreign message may quote anything, so only its type and place show."""
    if isinstance(error, TillstoneError):
        return f"{type(error).__name__} {error.code}: {error.detail}"
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    place = " < ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    members = f" of {len(error.exceptions)}" if isinstance(error, BaseExceptionGroup) else ""
    return f"{type(error).__name__}{members}" + (f" at {place}" if place else "")


def _cut(text: str, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    # Control and direction characters would let a terminal's name forge a line or repaint a console.
    text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[: characters_max + 1])
    text = text.encode(errors="replace").decode()  # a lone surrogate is no JSON
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def _time(now_ms: int) -> str:
    moment = datetime.fromtimestamp(now_ms // 1_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{now_ms % 1_000:03d}Z"

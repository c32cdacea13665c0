"""Lines are bounded, unforgeable, and never hold a secret."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from appliance.config.schema import Log as LogSettings
from appliance.config.secret import Secret
from appliance.model.errors import Bug, Unavailable
from appliance.runtime.line_writer import LineWriter
from appliance.runtime.log import Level, Log, as_console, shown
from appliance.runtime.log_bridge import bridge
from appliance.runtime.log_open import open_log
from tests.fakes.clock import FakeClock
from tests.unit.runtime.lines import Lines

PLANTED = "planted-secret"


@dataclasses.dataclass
class Card:
    number: str = PLANTED


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001  # any error, with its traceback
        return caught


def test_line_is_one_json_object_with_time_level_event_and_fields() -> None:
    lines = Lines(FakeClock(1_790_000_000_123))
    lines.log.info("payment.signed", took_ms=12, key=uuid.UUID(int=1), is_final=True)
    assert lines.parsed == [
        {
            "time": "2026-09-21T14:13:20.123Z",
            "level": "info",
            "event": "payment.signed",
            "took_ms": 12,
            "key": "00000000-0000-0000-0000-000000000001",
            "is_final": True,
        }
    ]


@pytest.mark.parametrize(
    "value",
    [
        Secret(PLANTED.encode()),
        PLANTED.encode() * 3,
        bytearray(PLANTED.encode() * 3),
        Card(),
        {"pin": PLANTED},
        [PLANTED],
        ValueError(PLANTED),
        raised(ValueError(PLANTED)),
        raised(ExceptionGroup(PLANTED, [ValueError(PLANTED)])),
        "x" * 200 + PLANTED,
        int.from_bytes(PLANTED.encode(), "big"),
    ],
)
def test_planted_secrets_never_appear(value: object) -> None:
    lines = Lines()
    lines.log.bind(bound=value).error("token.lost", field=value)
    as_number = str(int.from_bytes(PLANTED.encode(), "big"))
    for form in (PLANTED, PLANTED.encode().hex(), as_number):
        assert form not in lines.text


def test_an_error_shows_its_kind_and_place_and_ours_their_words() -> None:
    assert str(shown(raised(ValueError(PLANTED)))).startswith("ValueError at test_log.py:")
    assert shown(Unavailable("token_away", "the token is away")) == "Unavailable token_away: the token is away"


def test_long_bytes_show_as_a_hash_and_short_ones_as_hex() -> None:
    assert shown(bytes(32)) == "00" * 32
    assert str(shown(bytes(33))).startswith("sha256:")


def test_fields_beyond_the_bound_are_counted() -> None:
    lines = Lines()
    lines.log.info("payment.signed", **{f"field_{index}": index for index in range(20)})
    assert lines.parsed[0]["fields_dropped"] == 4


def test_a_field_cannot_pose_as_the_head_of_the_line() -> None:
    lines = Lines()
    lines.log.info("payment.signed", level="error")
    assert lines.parsed[0]["level"] == "info"


@given(st.text(), st.binary(max_size=100))
def test_any_text_stays_on_one_line_that_parses(text: str, octets: bytes) -> None:
    lines = Lines()
    lines.log.info("terminal.refused", name=text, octets=octets)
    assert lines.text.count("\n") == 1
    assert len(json.loads(lines.text)["name"]) <= 200
    assert len(as_console({"time": "", "level": "info", "event": "a.b", "name": shown(text)}).splitlines()) == 1


def test_event_that_is_not_noun_dot_verb_is_a_bug() -> None:
    with pytest.raises(Bug):
        Lines().log.info("Payment signed!")


def test_lines_below_the_level_are_not_written() -> None:
    out: list[str] = []
    log = Log(sink=out.append, clock=FakeClock(), level=Level.WARNING)
    log.info("payment.signed")
    log.warning("token.slowed")
    assert len(out) == 1


def test_opened_log_has_written_everything_at_its_end() -> None:
    out = io.StringIO()
    with open_log(LogSettings(), clock=FakeClock(), stream=out) as log:
        for index in range(100):
            log.info("payment.signed", index=index)
    assert [json.loads(line)["index"] for line in out.getvalue().splitlines()] == list(range(100))


def test_console_layout_is_for_eyes() -> None:
    out = io.StringIO()
    with open_log(LogSettings(format="console"), clock=FakeClock(), stream=out) as log:
        log.error("token.lost", slot=3)
    assert out.getvalue() == "14:13:20.000 X token.lost                   slot=3\n"


class StandingStill(io.StringIO):
    """A stream whose reader takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = threading.Event()
        self.may_go = threading.Event()

    @override
    def write(self, text: str, /) -> int:
        self.has_begun.set()
        self.may_go.wait(10)
        return super().write(text)


def test_reader_that_stands_still_costs_lines_and_never_time() -> None:
    stream = StandingStill()
    writer = LineWriter(stream, lines_max=10)
    writer("first\n")
    stream.has_begun.wait(10)
    for _ in range(15):
        writer("next\n")
    stream.may_go.set()
    writer.close()
    lines = stream.getvalue().splitlines()
    assert lines[:11] == ["first"] + ["next"] * 10
    assert json.loads(lines[11]) == {"level": "warning", "event": "lines.dropped", "count": 5}


def test_closed_output_does_not_stop_the_process() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    with open_log(LogSettings(), clock=FakeClock(), stream=stream) as log:
        log.info("payment.signed")
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_libraries_speak_without_their_words(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    lines = Lines()
    bridge(lines.log)
    logging.getLogger("stripe").error("key %s", PLANTED, exc_info=ValueError(PLANTED))
    logging.getLogger("stripe").info("key %s", PLANTED)
    assert PLANTED not in lines.text
    assert lines.parsed[0]["library"] == "stripe"
    assert lines.parsed[0]["place"].startswith(Path(__file__).name)
    assert lines.parsed[0]["error"] == "ValueError"


def test_what_strangers_send_to_a_door_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    lines = Lines()
    bridge(lines.log)
    logging.getLogger("aiohttp.server").error("a malformed head")
    logging.getLogger("other").error("a fault of our own")
    assert [line["level"] for line in lines.parsed] == ["info", "error"]

"""The page of codes is complete, and the till's reading of them agrees with the box's writing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.api.problem import status_of
from appliance.model.errors import Corrupt, OutcomeUnknown, Rejected, TillstoneError, Unavailable
from provisioning.terminal import verdict
from provisioning.terminal.verdict import Verdict

PROJECT = Path(__file__).resolve().parents[3]
PAGE = (PROJECT / "appliance/docs/formats/problems.md").read_text()
KINDS: dict[str, type[TillstoneError]] = {
    "Rejected": Rejected,
    "Unavailable": Unavailable,
    "OutcomeUnknown": OutcomeUnknown,
    "Corrupt": Corrupt,
    "NotBelieved": OutcomeUnknown,
}


def _raised(folder: str) -> Iterator[tuple[str, str]]:
    """(kind, code) of every error that is made with a literal code."""
    for path in sorted((PROJECT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=kind), args=[ast.Constant(value=str(code)), *_]) if kind in {
                    *KINDS,
                    "Bug",
                }:
                    yield kind, code


def _rows() -> list[tuple[int, str, str]]:
    """(status, code, retry) of the page's first section."""
    section = PAGE.split("## 2.")[0]
    return [
        (int(status), code, retry.strip(" *"))
        for status, codes, retry in re.findall(r"^\| (\d{3}) \| ([^|]+) \|[^|]+\|([^|]+)\|$", section, re.MULTILINE)
        for code in re.findall(r"`([a-z0-9_]+)`", codes)
    ]


@pytest.mark.parametrize("folder", ["appliance", "provisioning/terminal"])
def test_every_code_that_can_be_raised_is_on_the_page(folder: str) -> None:
    listed = set(re.findall(r"`([a-z0-9_]+)`", PAGE))
    assert sorted({code for _, code in _raised(folder)} - listed) == []


def test_status_on_the_page_is_the_status_that_the_box_sends() -> None:
    kinds: dict[str, set[str]] = {}
    for kind, code in _raised("appliance"):
        kinds.setdefault(code, set()).add(kind)
    wrong = [
        (status, code)
        for status, code, _ in _rows()
        if code in kinds and status not in {status_of(KINDS[kind](code, "")) for kind in kinds[code] & KINDS.keys()}
    ]
    assert wrong == []


def test_till_treats_every_code_in_doubt_as_possibly_done() -> None:
    in_doubt = {code for kind, code in _raised("appliance") if kind == "OutcomeUnknown"} | {"box_stopped"}
    assert in_doubt <= verdict.IN_DOUBT


@pytest.mark.parametrize(("status", "code", "retry"), _rows())
def test_verdict_on_a_code_is_what_the_page_says(status: int, code: str, retry: str) -> None:
    allowed = {
        "no": {Verdict.REFUSED, Verdict.NOT_HEARD},
        "fix": {Verdict.NOT_HEARD, Verdict.LEARN_CLOCK, Verdict.REFUSED},
        "later": {Verdict.SAME_KEY_LATER, Verdict.REFUSED},
        "ask": {Verdict.MAY_HAVE_HAPPENED},
    }
    assert verdict.of(status, code) in allowed[retry]


def test_only_a_success_is_an_answer() -> None:
    assert {status for status in range(100, 600) if verdict.of(status, "") is Verdict.ANSWERED} == {200, 202}

"""The page of codes is complete, and the till's reading of them agrees with the box's writing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from appliance.api.problem import status_of
from appliance.crypto.hybrid import KEY_CLASSES
from appliance.model.errors import Corrupt, OutcomeUnknown, Rejected, TillstoneError, Unavailable
from provisioning.sandbox.stripe_twin_api import DECLINING
from provisioning.terminal import verdict
from provisioning.terminal.reasons import REASONS, reason
from provisioning.terminal.verdict import Verdict

PROJECT = Path(__file__).resolve().parents[3]
PAGE = (PROJECT / "appliance/docs/formats/problems.md").read_text()
LISTED = set(re.findall(r"`([a-z0-9_]+)`", PAGE))
CARD_ANSWERS = {"Refused", "NotSent", "Unknown", "Declined", "Settled"}
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
                case ast.Call(func=ast.Name(id="BadEntry" as kind), args=[_, ast.Constant(value=str(code)), *_]):
                    yield kind, code
                case _:
                    pass


def _shown(folder: str) -> Iterator[str]:
    """Codes that have a hint or a step, or that a report carries."""
    for path in sorted((PROJECT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys))
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict(keys=keys))
                ) if name.endswith(("_HINTS", "_STEP_OF")):
                    yield from _texts(keys)
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    yield code
                case _:
                    pass


def _card_codes() -> Iterator[str]:
    """What stands behind `code=` or `reason=` where Stripe's answers are read and where an operation is settled."""
    files = [*sorted((PROJECT / "appliance/adapters").glob("stripe*.py"))]
    files += [PROJECT / "appliance/payment" / name for name in ("operate.py", "resolve.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=kind), keywords=keywords) if kind in CARD_ANSWERS:
                    yield from _texts(keyword.value for keyword in keywords if keyword.arg in ("code", "reason"))
                case ast.Return(value=ast.Constant(value=str(code))) if code.endswith("_differs"):
                    yield code
                case _:
                    pass


def _texts(expressions: Iterable[ast.expr | None]) -> Iterator[str]:
    return (each.value for each in expressions if isinstance(each, ast.Constant) and isinstance(each.value, str))


def _rows() -> list[tuple[int, str, str]]:
    """(status, code, retry) of the page's first section."""
    section = PAGE.split("## 2.")[0]
    return [
        (int(status), code, retry.strip(" *"))
        for status, codes, retry in re.findall(r"^\| (\d{3}) \| ([^|]+) \|[^|]+\|([^|]+)\|$", section, re.MULTILINE)
        for code in re.findall(r"`([a-z0-9_]+)`", codes)
    ]


@pytest.mark.parametrize(
    "folder", ["appliance", "provisioning/terminal", "provisioning/verify", "provisioning/exports"]
)
def test_every_code_that_can_be_raised_is_on_the_page(folder: str) -> None:
    assert sorted({code for _, code in _raised(folder)} - LISTED) == []


def test_every_code_that_a_verifier_shows_is_on_the_page() -> None:
    """Also those that are composed below it: each has a hint, a step of its own, or stands in a report."""
    nouns, faults = ("receipt", "signature", "head"), ("missing", "wrong", "repeated")
    signed = {f"{key_class}_{noun}_{fault}" for key_class in KEY_CLASSES for noun in nouns for fault in faults}
    shown = set(_shown("provisioning/verify"))
    assert {"outcome_of_another_intent", "entry_body_malformed", "second_opinion_differs", "head_mismatch"} <= shown
    assert sorted((shown | {f"{noun}_key_unknown" for noun in nouns}) - signed - LISTED) == []


def test_why_a_card_was_declined_is_on_the_page_and_has_words() -> None:
    """Every code that our side can put beside a payment's state; the provider's own pass through."""
    codes = set(_card_codes()) | {code for code, *_ in DECLINING.values()} | {fine for _, fine, _ in DECLINING.values()}
    assert len(codes) > 30
    assert sorted(codes - REASONS.keys()) == []
    assert sorted(REASONS.keys() - LISTED) == []


def test_a_code_that_nobody_knows_is_told_by_its_state() -> None:
    assert reason("declined", "brand_new") == "the card's side said no"
    assert reason("being_checked", "brand_new").endswith("never charges twice")


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

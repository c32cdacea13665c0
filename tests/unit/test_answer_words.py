"""What a cashier reads of an answer: the key, and what can be done with it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey, request_key
from appliance.runtime.clock import SystemClock
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import OfflineAnswer, PartAnswer, PaymentAnswer, SaleAnswer, State
from provisioning.commands.answer import Answered, Question, ask_till, show
from provisioning.commands.outcome import CannotDo
from provisioning.commands.pay import IN_DOUBT
from provisioning.sandbox.layout import FOLDER_DEFAULT
from provisioning.sandbox.screen import PROGRAM
from provisioning.terminal.client import TerminalClient
from provisioning.terminal.home import Profile, TerminalHome

KEY = "01a0c450-6c00-7000-8000-000000000001"
PROFILE = Profile(url="https://box", terminal="till-1", audience="shop.example/SN-1/1", currency="EUR")
FIRST = "01a0c450-6c00-7000-8000-000000000000"


def words(
    capsys: pytest.CaptureFixture[str],
    state: State,
    *,
    sale: SaleAnswer | None = None,
    verb: str = "payment",
    code: str | None = None,
    offline: OfflineAnswer | None = None,
) -> str:
    answer = PaymentAnswer(
        key=KEY, seq=46, verb=verb, state=state, now_ms=1, currency="EUR", total_minor=1400, sale=sale
    )
    answer = msgspec.structs.replace(answer, code=code, offline=offline)
    home = TerminalHome(folder=Path("nowhere"))
    arguments = argparse.Namespace(json=False, home=None, dir=FOLDER_DEFAULT)
    show(Answered(answer=answer, home=home, took_ms=1, receipt_file=None), arguments)
    return capsys.readouterr().out


def of_sale(paid_minor: int, *, first: str = FIRST, total_minor: int = 2000) -> SaleAnswer:
    parts = (PartAnswer(key=first, state="approved", total_minor=paid_minor, left_minor=paid_minor),)
    left = total_minor - paid_minor
    return SaleAnswer(key=first, parts=parts, paid_minor=paid_minor, total_minor=total_minor, remaining_minor=left)


@pytest.mark.parametrize(
    ("state", "commands"),
    [
        (
            "being_checked",
            [f"receipt {KEY}", f"pay --cash --amount 14.00 --retry-of {KEY}", f"reverse {KEY}"],
        ),
        ("accepted_offline", [f"receipt {KEY}", f"reverse {KEY}"]),
        ("declined", [f"pay --cash --amount 14.00 --retry-of {KEY}"]),
        ("not_charged", [f"pay --cash --amount 14.00 --retry-of {KEY}"]),
        ("authorised", [f"capture {KEY}", f"reverse {KEY}"]),
        ("approved", [f"refund {KEY}"]),
    ],
)
def test_every_end_of_a_sale_says_its_key_and_what_can_be_done(
    capsys: pytest.CaptureFixture[str], state: State, commands: list[str]
) -> None:
    said = words(capsys, state)
    assert f"key        {KEY}" in said
    assert [line.strip() for line in said.splitlines() if line.startswith(f"    {PROGRAM} ")] == [
        f"{PROGRAM} {command}" for command in commands
    ]


def test_a_part_that_failed_is_tried_again_as_that_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert f"pay --cash --amount 14.00 --part-of {FIRST} --retry-of {KEY}" in words(
        capsys, "declined", sale=of_sale(600)
    )
    assert f"pay --cash --amount 14.00 --of-total 20.00 --retry-of {KEY}" in words(
        capsys, "declined", sale=of_sale(0, first=KEY)
    )


def test_a_refund_that_is_looked_into_offers_no_other_tender(capsys: pytest.CaptureFixture[str]) -> None:
    said = words(capsys, "being_checked", verb="refund")
    assert f"receipt {KEY}" in said
    assert "--retry-of" not in said


def test_of_an_incomplete_sale_no_refund_is_offered_and_the_headline_says_how_much_is_paid(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = words(capsys, "approved", sale=of_sale(1400, first=KEY))
    assert "14.00 of 20.00 EUR: approved" in said
    assert f"pay --part-of {KEY}" in said
    assert "refund" not in said


def test_a_complete_sale_in_parts_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    said = words(capsys, "approved", sale=of_sale(2000))
    assert "20.00 EUR of 20.00 EUR paid by 1 part; the sale is complete." in said
    assert f"refund {KEY}" in said
    assert f"To give all of the sale back:\n\n    {PROGRAM} refund {FIRST}" in said


def test_a_reversal_that_had_nothing_to_give_back_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there was nothing to give back" in words(capsys, "declined", verb="reversal")
    assert "nothing to give back" not in words(capsys, "reversed", verb="reversal")


@pytest.mark.parametrize(
    ("offline", "said"),
    [
        (OfflineAnswer(limit="sale", left_minor=500), "of the limit for one sale 5.00 EUR was left"),
        (OfflineAnswer(limit="terminal", left_minor=0), "of the limit for this till 0.00 EUR was left"),
        (OfflineAnswer(limit="box", left_minor=1), "of the limit for all tills 0.01 EUR was left"),
        (OfflineAnswer(limit="age"), "waits too long already"),
    ],
)
def test_a_card_above_an_offline_limit_says_which_one_and_what_was_left(
    capsys: pytest.CaptureFixture[str], offline: OfflineAnswer, said: str
) -> None:
    assert said in words(capsys, "declined", code="offline_limit_exceeded", offline=offline)


def test_a_pad_that_nobody_answers_at_is_no_card_reader(capsys: pytest.CaptureFixture[str]) -> None:
    assert "reader" not in words(capsys, "declined", code="customer_canceled")
    assert "its device" in words(capsys, "not_charged", code="provider_unreachable")


class Client:
    """A client that never gets to its box."""

    profile = PROFILE

    def new_key(self) -> RequestKey:
        return request_key(KEY)

    def deadline(self, duration_ms: int) -> Deadline:
        return Deadline.after(SystemClock(), duration_ms)


@asynccontextmanager
async def opened(_home: TerminalHome, *, clock: SystemClock) -> AsyncIterator[Client]:
    del clock
    yield Client()


def refused(monkeypatch: pytest.MonkeyPatch, home: TerminalHome, question: Question[PaymentAnswer]) -> CannotDo:
    monkeypatch.setattr("provisioning.commands.answer.open_terminal", opened)
    with pytest.raises(CannotDo) as told:
        ask_till(home, question, when_in_doubt=IN_DOUBT)
    return told.value


def test_who_stops_a_question_is_told_its_key_and_not_to_ask_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def stopped(_client: TerminalClient, _key: RequestKey, _deadline: Deadline) -> PaymentAnswer:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)
        raise AssertionError("nobody stopped it")

    told = refused(monkeypatch, TerminalHome(folder=tmp_path), stopped)
    assert KEY in told.sentence
    assert f"--retry-of {KEY}" in told.next_step
    assert f"reverse {KEY}" in told.next_step


@pytest.mark.parametrize(
    ("code", "detail", "sentence", "next_step"),
    [
        ("source_in_clear", "hand it in", "hand it in", "vault keep --for sale"),
        ("token_purpose_wrong", "for hold, not for this", "for hold, not for this", "--later"),
        ("token_forgotten", "forgotten by entry 46", "forgotten by entry 46", "vault list"),
        ("card_number_refused", "a text", "a text", "without the card's number"),
        ("partial_needs_one_card", "one card", "one card", "without --tip"),
        ("sale_not_in_parts", "nothing open", "nothing open", "--of-total"),
        (
            "part_above_remaining",
            "expected at most 3000 minor units: of 5000 are 2000 paid and 0 on their way; saw 4000",
            "expected at most 30.00 EUR: of 50.00 EUR are 20.00 EUR paid and 0.00 EUR on their way; saw 40.00 EUR",
            "--part-of KEY",
        ),
        (
            "drawer_short",
            "drawer till-1 holds 1000 minor units by the log, saw 1001",
            "drawer till-1 holds 10.00 EUR by the log, saw 10.01 EUR",
            "count the drawer",
        ),
        (
            "drawer_short",
            "drawer 2 holds 1000 minor units by the log, saw 1001",
            "drawer 2 holds 10.00 EUR by the log, saw 10.01 EUR",
            "count the drawer",
        ),
    ],
)
def test_a_refusal_speaks_in_money_and_says_what_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, detail: str, sentence: str, next_step: str
) -> None:
    async def refuse(_client: TerminalClient, _key: RequestKey, _deadline: Deadline) -> PaymentAnswer:
        raise Rejected(code, detail)

    told = refused(monkeypatch, TerminalHome(folder=tmp_path), refuse)
    assert told.sentence == f"refused: {sentence} ({code})"
    assert next_step in told.next_step

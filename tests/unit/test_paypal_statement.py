"""What a line of PayPal's transaction search means, and which make the whole page unread."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from appliance.adapters.paypal_money import minor_from_paypal
from appliance.adapters.paypal_session import PayPalSession
from appliance.adapters.paypal_statement import PayPalStatement
from appliance.adapters.provider_http import Reply
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import HOUR_MS
from appliance.ports.provider import NotSent
from appliance.ports.statement import Line, LineKind, Window
from tests.fakes.clock import START_MS, FakeClock

WINDOW = Window(begins_ms=START_MS - HOUR_MS, ends_ms=START_MS + HOUR_MS)
OURS = "corner-shop.example/TEST/1 0199c0de-0000-7000-8000-000000000001/0"


class Saying:
    """A session that gives one answer."""

    def __init__(self, reply: Reply | NotSent) -> None:
        self._reply = reply
        self.asked: list[str] = []

    async def ask(self, _method: str, path: str) -> Reply | NotSent:
        self.asked.append(path)
        return self._reply


def euros(value: str, currency: str = "EUR") -> dict[str, str]:
    return {"currency_code": currency, "value": value}


def said(**more: Any) -> dict[str, Any]:
    """A capture of ours, with something else in it."""
    return {
        "transaction_id": "5TY05013RG002845M",
        "transaction_event_code": "T0006",
        "transaction_initiation_date": "2026-09-21T11:00:00+0000",
        "transaction_status": "S",
        "transaction_amount": euros("9.90"),
        "fee_amount": euros("-0.60"),
        "custom_field": OURS,
    } | more


def answer(*infos: dict[str, Any], date_ms: int | None = START_MS, **more: Any) -> Reply:
    details = [{"transaction_info": info} for info in infos]
    body = {"transaction_details": details, "total_pages": 1, "last_refreshed_datetime": "2026-09-21T11:30:00+0000"}
    return Reply(status=200, body=json.dumps(body | more).encode(), date_ms=date_ms)


async def lines_of(reply: Reply | NotSent) -> tuple[Line, ...]:
    statement = PayPalStatement(session=cast(PayPalSession, Saying(reply)), clock=FakeClock())
    return (await statement.page(WINDOW, None)).lines


async def line_of(**more: Any) -> Line:
    (line,) = await lines_of(answer(said(**more)))
    return line


@pytest.mark.parametrize(
    ("code", "value", "kind"),
    [
        ("T0006", "9.90", LineKind.CHARGE),
        ("T0012", "9.90", LineKind.CHARGE),
        ("T0006", "-9.90", LineKind.OTHER),  # the shop bought something
        ("T1107", "-9.90", LineKind.REFUND),
        ("T1106", "-9.90", LineKind.DISPUTE),
        ("T1111", "9.90", LineKind.DISPUTE),
        ("T1201", "-9.90", LineKind.DISPUTE),
        ("T0400", "-9.90", LineKind.PAYOUT),
        ("T0200", "-9.90", LineKind.OTHER),
        ("T2101", "-9.90", LineKind.OTHER),
    ],
)
async def test_the_event_code_says_what_moved(code: str, value: str, kind: LineKind) -> None:
    line = await line_of(transaction_event_code=code, transaction_amount=euros(value))
    assert (line.kind, abs(line.gross_minor)) == (kind, 990)


async def test_gross_less_fee_is_net_and_a_line_without_a_fee_has_none() -> None:
    line = await line_of()
    assert (line.gross_minor, line.fee_minor, line.net_minor, line.currency) == (990, 60, 930, "EUR")
    free = await line_of(fee_amount=None)
    assert (free.fee_minor, free.net_minor) == (0, 990)


async def test_what_waits_or_was_denied_is_no_line_and_what_was_reversed_is() -> None:
    infos = [said(transaction_id=status, transaction_status=status) for status in "SPDV"]
    assert [line.line_id for line in await lines_of(answer(*infos))] == ["S/T0006", "V/T0006"]


async def test_two_lines_may_have_one_name() -> None:
    infos = said(), said(transaction_event_code="T1105")
    assert len({line.line_id for line in await lines_of(answer(*infos))}) == 2


@pytest.mark.parametrize("text", ["", "WOO-1", "Thank you", "Thank you/1", "a/b/1 no-number", f"{OURS} "])
async def test_text_of_others_is_nobodys_name(text: str) -> None:
    line = await line_of(custom_field=text)
    assert (line.log_origin, line.operation_id) == (None, None)
    ours = await line_of()
    assert f"{ours.log_origin} {ours.operation_id}" == OURS


@pytest.mark.parametrize(
    "more",
    [
        {"transaction_status": "X"},
        {"transaction_amount": euros("9.901")},
        {"transaction_amount": euros("9,90")},
        {"transaction_amount": euros("9.90", "XXA")},
        {"fee_amount": euros("-0.60", "USD")},
        {"transaction_id": "no name"},
        {"transaction_initiation_date": "yesterday"},
        {"transaction_initiation_date": "9999-01-01T00:00:00Z"},
        {"custom_field": "x" * 256},
    ],
)
async def test_a_line_that_is_not_understood_makes_the_page_unread(more: dict[str, Any]) -> None:
    with pytest.raises(Unavailable) as told:
        await line_of(**more)
    assert told.value.code == "statement_unread"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (NotSent(reason="connection_failed"), "connection_failed"),
        (Reply(status=429, body=b"{}", date_ms=START_MS), "status 429"),
        (answer(date_ms=None), "clock_disagrees"),
        (answer(date_ms=START_MS + HOUR_MS), "clock_disagrees"),
        (answer(total_pages=-1), "answer_unreadable"),
        (answer(last_refreshed_datetime=None), "answer_unreadable"),
    ],
)
async def test_an_answer_that_is_none_is_told(reply: Reply | NotSent, reason: str) -> None:
    with pytest.raises(Unavailable, match=reason):
        await lines_of(reply)


async def test_a_search_begins_ten_days_before_the_window_and_ends_inside_of_it() -> None:
    session = Saying(answer())
    await PayPalStatement(session=cast(PayPalSession, session), clock=FakeClock()).page(WINDOW, None)
    (path,) = session.asked
    assert "start_date=2026-09-11" in path
    assert "%3A13%3A19.999Z" in path


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [("-12.5", "EUR", -1_250), (".5", "EUR", 50), ("100", "HUF", 10_000), ("100.00", "JPY", 100), ("0", "EUR", 0)],
)
def test_amounts_of_reports_are_read_exactly(value: str, currency: str, minor: int) -> None:
    assert minor_from_paypal(value, currency) == minor


@pytest.mark.parametrize("value", ["", "-", ".", "1e3", "1.234", "--1", " 1"])
def test_what_is_no_amount_is_refused(value: str) -> None:
    with pytest.raises(Rejected):
        minor_from_paypal(value, "EUR")

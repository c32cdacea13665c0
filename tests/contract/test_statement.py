"""What every provider's statement promises, held against the fake, the SDK with Stripe's twin, and PayPal's twin.

The oracle is what the other side charged and gave back.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Protocol, cast

import pytest

from appliance.adapters.paypal_statement import PayPalStatement
from appliance.adapters.provider_http import Reply
from appliance.adapters.stripe_session import StripeSession, StripeSettings
from appliance.adapters.stripe_statement import StripeStatement
from appliance.config.secret import Secret
from appliance.model.errors import Unavailable
from appliance.model.ids import OperationId, ProviderReference
from appliance.model.limits import DAY_MS, HOUR_MS
from appliance.model.money import Money
from appliance.ports.statement import LINES_PER_PAGE_MAX, Line, LineId, LineKind, Statement, Window
from provisioning.sandbox.paypal_twin_report import fee_of as paypal_fee_of
from provisioning.sandbox.stripe_twin_balance import Plant, fee_of, plant
from provisioning.sandbox.stripe_twin_faults import Fault, FaultName
from tests.fakes.clock import START_MS, FakeClock
from tests.fakes.statement import FakeStatement
from tests.paypal_twin_here import PayPalHere
from tests.stripe_twin_here import KEY, TwinHere

ORIGIN = "corner-shop.example/TEST/1"
WINDOW = Window(begins_ms=START_MS - HOUR_MS, ends_ms=START_MS + HOUR_MS)


class Subject(Protocol):
    statement: Statement

    def fee_of(self, amount: int) -> int: ...
    async def charge(self, amount: int, operation: str | None, *, currency: str = "EUR") -> ProviderReference: ...
    async def refund(self, of: ProviderReference, amount: int, operation: str) -> ProviderReference: ...
    async def dispute(self, of: ProviderReference, amount: int) -> None: ...
    def fail_after(self, pages: int) -> None: ...
    def pass_time(self, duration_ms: int) -> None: ...


class FakeSubject:
    def __init__(self) -> None:
        self.fake = FakeStatement()
        self.statement: Statement = self.fake
        self._numbers = itertools.count(1)
        self._now_ms = START_MS

    def fee_of(self, amount: int) -> int:
        return fee_of(amount)

    async def charge(self, amount: int, operation: str | None, *, currency: str = "EUR") -> ProviderReference:
        return self._book(LineKind.CHARGE, amount, fee_of(amount), operation, currency)

    async def refund(self, of: ProviderReference, amount: int, operation: str) -> ProviderReference:
        return self._book(LineKind.REFUND, -amount, 0, operation, "EUR")

    async def dispute(self, of: ProviderReference, amount: int) -> None:
        self._book(LineKind.DISPUTE, -amount, 1_500, None, "EUR", of)

    def fail_after(self, pages: int) -> None:
        self.fake.fails_after = pages

    def pass_time(self, duration_ms: int) -> None:
        self._now_ms += duration_ms

    def _book(
        self,
        kind: LineKind,
        gross: int,
        fee: int,
        operation: str | None,
        currency: str,
        of: ProviderReference | None = None,
    ) -> ProviderReference:
        number = next(self._numbers)
        reference = ProviderReference(f"ref_{number}") if of is None else of
        self.fake.lines.append(
            Line(
                line_id=LineId(f"line_{number:06d}"),
                kind=kind,
                reference=reference,
                log_origin=None if operation is None else ORIGIN,
                operation_id=None if operation is None else OperationId(operation),
                gross_minor=gross,
                fee_minor=fee,
                net_minor=gross - fee,
                currency=currency,
                created_ms=self._now_ms,
                available_ms=self._now_ms + 2 * DAY_MS,
            )
        )
        return reference


class StripeSubject:
    def __init__(self, twin: TwinHere, statement: StripeStatement) -> None:
        assert isinstance(twin.clock, FakeClock)
        self.clock = twin.clock
        self.twin = twin
        self.statement: Statement = statement

    def fee_of(self, amount: int) -> int:
        return fee_of(amount)

    async def charge(self, amount: int, operation: str | None, *, currency: str = "EUR") -> ProviderReference:
        made = await self.twin.sdk().v1.payment_intents.create_async(
            {
                "amount": amount,
                "currency": currency.lower(),
                "confirm": True,
                "payment_method": "pm_card_visa",
                "metadata": _metadata(operation),
            }
        )
        return ProviderReference(made.id)

    async def refund(self, of: ProviderReference, amount: int, operation: str) -> ProviderReference:
        made = await self.twin.sdk().v1.refunds.create_async(
            {"payment_intent": of, "amount": amount, "metadata": _metadata(operation)}
        )
        return ProviderReference(made.id)

    async def dispute(self, of: ProviderReference, amount: int) -> None:
        with self.twin.store.transaction():
            plant(self.twin.store, Plant(payment=of, what="disputed"))

    def fail_after(self, pages: int) -> None:
        # A slow answer is a line of the script too: it uses up the requests that shall work.
        if pages:
            self.twin.twin.faults.add(Fault(fault="delay", path="/v1/balance_transactions", times=pages))
        self.twin.twin.faults.add(Fault(fault="error_then_success", path="/v1/balance_transactions"))

    def pass_time(self, duration_ms: int) -> None:
        self.clock.pass_time(duration_ms)


class PayPalSubject:
    """A capture stands in the search under its own name."""

    def __init__(self, here: PayPalHere, statement: PayPalStatement) -> None:
        assert isinstance(here.clock, FakeClock)
        self.clock = here.clock
        self.here = here
        self.statement: Statement = statement
        here.list_after(0)

    def fee_of(self, amount: int) -> int:
        return int(Decimal(paypal_fee_of(_value(amount))) * 100)

    async def charge(self, amount: int, operation: str | None, *, currency: str = "EUR") -> ProviderReference:
        _, capture = self.here.take(_value(amount), _custom_id(operation), currency=currency)
        return ProviderReference(capture)

    async def refund(self, of: ProviderReference, amount: int, operation: str) -> ProviderReference:
        return ProviderReference(self.here.give_back(of, _value(amount), _custom_id(operation)))

    async def dispute(self, of: ProviderReference, amount: int) -> None:
        self.here.plant(of, "disputed")

    def fail_after(self, pages: int) -> None:
        path = "/v1/reporting/transactions"
        if pages:
            self.here.twin.faults.add(Fault(fault="delay", path=path, times=pages))
        self.here.twin.faults.add(Fault(fault="error_then_success", path=path))

    def pass_time(self, duration_ms: int) -> None:
        self.clock.pass_time(duration_ms)


def _value(amount: int) -> str:
    return str(Decimal(amount) / 100)


def _custom_id(operation: str | None) -> str:
    return "" if operation is None else f"{ORIGIN} {operation}"


def _metadata(operation: str | None) -> dict[str, str]:
    return {} if operation is None else {"tillstone_log": ORIGIN, "tillstone_operation": operation}


async def open_statement(twin: TwinHere, key: str = KEY) -> StripeStatement:
    settings = StripeSettings(api_base=twin.base, api_key=Secret(key.encode()))
    return await StripeStatement.open(settings=settings, clock=twin.clock)


@pytest.fixture(params=["fake", "stripe", "paypal"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "fake":
        yield FakeSubject()
        return
    if request.param == "paypal":
        async with PayPalHere() as here:
            search = here.statement()
            yield PayPalSubject(here, search)
            await search.close()
        return
    async with TwinHere() as twin:
        statement = await open_statement(twin)
        yield StripeSubject(twin, statement)
        await statement.close()


async def read_all(statement: Statement, window: Window = WINDOW) -> list[Line]:
    lines: list[Line] = []
    page = await statement.page(window, None)
    lines += page.lines
    while page.following is not None:
        page = await statement.page(window, page.following)
        assert len(page.lines) <= LINES_PER_PAGE_MAX
        lines += page.lines
    return lines


async def test_each_movement_is_one_line_with_our_names_and_adds_up(subject: Subject) -> None:
    paid = await subject.charge(990, "op/0")
    back = await subject.refund(paid, 400, "op/1")
    lines = {line.reference: line for line in await read_all(subject.statement)}
    charge, refund = lines[paid], lines[back]
    assert (charge.kind, charge.gross_minor, charge.operation_id, charge.log_origin) == (
        LineKind.CHARGE,
        990,
        "op/0",
        ORIGIN,
    )
    assert (refund.kind, refund.gross_minor, refund.operation_id) == (LineKind.REFUND, -400, "op/1")
    assert charge.fee_minor == subject.fee_of(990)
    assert all(line.net_minor == line.gross_minor - line.fee_minor for line in lines.values())
    assert all(line.available_ms >= line.created_ms and line.currency == "EUR" for line in lines.values())


async def test_what_somebody_else_charged_and_what_a_bank_took_back_is_listed_too(subject: Subject) -> None:
    stranger = await subject.charge(2_000, None)
    paid = await subject.charge(990, "op/0")
    await subject.dispute(paid, 990)
    found = {
        (line.kind, line.reference, line.operation_id, line.gross_minor) for line in await read_all(subject.statement)
    }
    assert (LineKind.CHARGE, stranger, None, 2_000) in found
    assert (LineKind.DISPUTE, paid, None, -990) in found
    assert len(found) == 3


async def test_pages_follow_each_other_without_a_gap_or_a_line_twice(subject: Subject) -> None:
    count = 2 * LINES_PER_PAGE_MAX + 1
    for number in range(count):
        await subject.charge(1_000 + number, f"op/{number}")
    lines = await read_all(subject.statement)
    assert sorted(line.gross_minor for line in lines) == [1_000 + number for number in range(count)]
    assert len({line.line_id for line in lines}) == count


async def test_a_page_that_fails_is_told_and_the_window_can_be_read_again(subject: Subject) -> None:
    for number in range(LINES_PER_PAGE_MAX + 1):
        await subject.charge(1_000, f"op/{number}")
    subject.fail_after(1)
    with pytest.raises(Unavailable, match=r"statement could not be read|switch") as told:
        await read_all(subject.statement)
    assert told.value.code == "statement_unread"
    if isinstance(subject, FakeSubject):
        subject.fake.fails_after = None
    assert len(await read_all(subject.statement)) == LINES_PER_PAGE_MAX + 1


async def test_a_window_holds_its_first_instant_and_not_its_last(subject: Subject) -> None:
    await subject.charge(1_000, "op/0")
    subject.pass_time(HOUR_MS)
    await subject.charge(2_000, "op/1")
    first = Window(begins_ms=START_MS, ends_ms=START_MS + HOUR_MS)
    second = Window(begins_ms=START_MS + HOUR_MS, ends_ms=START_MS + 2 * HOUR_MS)

    async def within(window: Window) -> list[int]:
        lines = await read_all(subject.statement, window)
        return [line.gross_minor for line in lines if line.created_ms >= window.begins_ms]

    assert await within(first) == [1_000]
    assert await within(second) == [2_000]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("drop_request", "connection_lost"),
        ("truncated_json", "answer_unreadable"),
        ("truncated_reply", "answer_cut_short"),
        ("rate_limited", "status 429"),
    ],
)
async def test_stripe_half_an_answer_is_no_statement(fault: FaultName, reason: str) -> None:
    async with TwinHere() as twin:
        statement = await open_statement(twin)
        # The HTTP library asks again by itself when a connection ends under a reading: each time it is dropped.
        twin.twin.faults.add(Fault(fault=fault, path="/v1/balance_transactions", times=3))
        with pytest.raises(Unavailable, match=reason) as told:
            await statement.page(WINDOW, None)
        await statement.close()
        assert KEY not in told.value.detail


async def test_stripe_is_not_believed_while_its_clock_and_ours_disagree() -> None:
    async with TwinHere() as twin:
        statement = await open_statement(twin)
        twin.store.move_clock(HOUR_MS)
        with pytest.raises(Unavailable, match="clock_disagrees"):
            await statement.page(WINDOW, None)
        await statement.close()


class Saying:
    """A session that answers with these lines."""

    def __init__(self, clock: FakeClock, *lines: dict[str, Any]) -> None:
        body = json.dumps({"object": "list", "data": lines, "has_more": False})
        self._reply = Reply(status=200, body=body.encode(), date_ms=clock.now_ms())

    async def ask(self, *_: object, **__: object) -> Reply:
        return self._reply


def said(**more: Any) -> dict[str, Any]:
    """A line of Stripe's, with something else in it."""
    source = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1"} | more.pop("source", {})
    amounts = {"amount": 1_000, "fee": 40, "net": 960, "currency": "eur"}
    times = {"created": START_MS // 1_000, "available_on": START_MS // 1_000}
    return {
        "id": "txn_1",
        "type": "charge",
        "reporting_category": "charge",
        **amounts,
        **times,
        "source": source,
    } | more


async def page_of(line: dict[str, Any]) -> Line:
    clock = FakeClock()
    statement = StripeStatement(session=cast(StripeSession, Saying(clock, line)), clock=clock)
    (found,) = (await statement.page(WINDOW, None)).lines
    return found


@pytest.mark.parametrize(
    "line",
    [
        said(amount=2**63),
        said(fee=-(2**63)),
        said(created=10**15),
        said(available_on=-(10**15)),
        said(source={"payment_intent": "p" * 1_000}),
        said(source={"id": "c" * 1_000, "payment_intent": None}),
    ],
)
async def test_stripe_a_line_that_no_day_could_hold_is_no_statement(line: dict[str, Any]) -> None:
    assert (await page_of(said())).gross_minor == 1_000
    with pytest.raises(Unavailable, match="answer_unreadable"):
        await page_of(line)


async def test_stripe_says_what_was_asked_for_where_it_settled_in_another_currency() -> None:
    source = {"amount": 5_000, "amount_captured": 800, "currency": "eur"}
    line = await page_of(said(source=source, currency="usd", exchange_rate=1.25))
    assert (line.gross_minor, line.currency, line.converted_from) == (1_000, "USD", Money(800, "EUR"))
    refund = {"type": "refund", "amount": -1_000, "currency": "usd", "exchange_rate": 1.25}
    back = {"id": "re_1", "object": "refund", "amount": 800, "currency": "eur"}
    assert (await page_of(said(**refund, source=back))).converted_from == Money(-800, "EUR")
    assert (await page_of(said(source=source))).converted_from is None


@pytest.mark.parametrize("name", ["tillstone_operation", "tillstone_log"])
async def test_stripe_names_that_are_too_long_for_ours_are_nobodys(name: str) -> None:
    ours = {"tillstone_operation": "op/0", "tillstone_log": ORIGIN}
    line = await page_of(said(source={"metadata": ours | {name: "x" * 500}}))
    assert (line.operation_id, line.log_origin) == (None, None)
    line = await page_of(said(source={"metadata": ours}))
    assert (line.operation_id, line.log_origin) == ("op/0", ORIGIN)


async def test_stripe_amounts_come_in_iso_minor_units() -> None:
    async with TwinHere() as twin:
        subject = StripeSubject(twin, await open_statement(twin))
        await subject.charge(500, "op/0", currency="JPY")
        (line,) = await read_all(subject.statement)
        assert (line.gross_minor, line.currency) == (500, "JPY")
        await subject.statement.close()

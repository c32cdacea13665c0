"""The log beside Stripe's balance: a real ledger and the real SDK with the twin, days that a test lets pass.

Every type of break is planted at the twin, and found with its type, its owner and its age.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.model.limits import DAY_MS, HOUR_MS
from appliance.till.sheet import sheet_of_day
from appliance.till.statement_sheet import converted_words, with_statement
from appliance.wire.reconcile_entries import DifferenceFacts
from provisioning.sandbox.stripe_twin_balance import fee_of
from provisioning.sandbox.stripe_twin_faults import Fault, FaultName
from tests.integration.desk import Desk, open_desk
from tests.unit.till.acts import card, pay


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as opened:
        yield opened


async def test_a_day_without_a_difference_adds_up_to_the_cent_with_fees_and_net(desk: Desk) -> None:
    for amount in (990, 1_250, 3_333):
        await desk.sell(amount)
    refunded = desk.shop.new_key()
    await pay(desk.shop, card(700), key=refunded)
    await desk.shop.works_done()
    await desk.shop.pipeline.refund(desk.shop.request("refund", {"of": refunded, "amount_minor": 200}))
    await desk.shop.works_done()
    day = desk.end_day()
    answer = await desk.look()
    fees = sum(fee_of(amount) for amount in (990, 1_250, 3_333, 700))
    found = answer.day
    assert (found.day, answer.open_count, answer.is_new, found.differences) == (day, 0, True, ())
    assert (found.here.charges, found.here.charged, found.here.refunds, found.here.refunded) == (4, 6_273, 1, 200)
    assert (found.there.gross, found.there.fee, found.there.net) == (6_073, fees, 6_073 - fees)


async def test_close_of_the_day_shows_the_statement_with_fees_and_net(desk: Desk) -> None:
    await desk.sell(990)
    closed = await desk.shop.days.close()
    assert closed.reconciled == (), "the provider was not asked yet"
    day = desk.end_day()
    recorded = await desk.look()
    again = await desk.shop.days.close()
    assert (again.day.day, again.seq) == (day, closed.seq)
    assert [(each.day, each.digest) for each in again.reconciled] == [(day, recorded.day.digest)]
    rows = with_statement(sheet_of_day(again.day, seq=again.seq), again).rows
    shown = {row.label: row.amount_minor for row in rows if row.section.endswith(f"statement, day {day}")}
    assert (shown["gross"], shown["fees"], shown["net"]) == (990, -fee_of(990), 990 - fee_of(990))
    taken = next(row.amount_minor for row in rows if row.label == "card taken")
    assert taken == shown["gross"], "what the tills took by card is what the provider lists"


async def test_of_a_card_that_was_approved_for_less_that_is_what_the_day_compares(desk: Desk) -> None:
    key = desk.shop.new_key()
    tender = {"kind": "card", "amount_minor": 1_000, "source": "pm_card_debit_partialAuthorization"}
    await pay(
        desk.shop, {"currency": "EUR", "amount_minor": 1_000, "tenders": [tender], "partial": "accepted"}, key=key
    )
    await desk.shop.works_done()
    await desk.sell(500)
    desk.end_day()
    answer = await desk.look()
    assert (answer.day.here.charged, answer.day.there.charged) == (1_200, 1_200)
    assert (answer.open_count, answer.day.differences) == (0, ())


@pytest.mark.parametrize(
    ("what", "more", "expected"),
    [
        ("changed", {"amount": 980}, ("amount", "provider")),
        ("changed", {"currency": "usd"}, ("currency", "shop")),
        ("changed", {"fee": 200}, ("fee", "provider")),
        ("changed", {"net": 1}, ("fee", "provider")),
        ("doubled", {}, ("doubled", "shop")),
        ("gone", {}, ("late", "provider")),
        ("disputed", {}, ("missing_here", "shop")),
    ],
)
async def test_a_planted_break_is_found_with_its_type_and_owner(
    desk: Desk, what: str, more: dict[str, Any], expected: tuple[str, str]
) -> None:
    await desk.sell(1_250)
    desk.plant(await desk.sell(990), what, **more)
    day = desk.end_day()
    assert await desk.kinds() == [(*expected, day)]
    found = (await desk.look()).day
    recorded = found.here.charged - found.here.refunded
    assert recorded + sum(each.amount for each in found.differences) == found.there.gross


@pytest.mark.parametrize(("more", "kind"), [({"amount": 980}, "amount"), ({"currency": "usd"}, "currency")])
async def test_a_line_that_differs_stays_that_break_until_it_is_accepted(
    desk: Desk, more: dict[str, Any], kind: str
) -> None:
    desk.plant(await desk.sell(990), "changed", **more)
    day = desk.end_day()
    opened = await desk.kinds()
    assert [(each[0], each[2]) for each in opened] == [(kind, day)]
    for _ in range(3):
        desk.end_day()
        assert await desk.kinds() == opened, "it is no second charge on the days that follow"
        assert (await desk.look()).day.differences in ((), (DifferenceFacts(why=kind, count=1, amount=0),))
    (found,) = (await desk.look()).breaks
    await desk.reconciliation.accept(found.type, found.subject, "agreed with the provider")
    for _ in range(2):
        assert (await desk.look()).open_count == 0
        desk.end_day()


async def test_of_two_breaks_of_a_payment_one_is_accepted_and_the_other_stays(desk: Desk) -> None:
    desk.plant(await desk.sell(990), "changed", amount=980, fee=200)
    day = desk.end_day()
    assert await desk.kinds() == [("amount", "provider", day), ("fee", "provider", day)]
    (found, _) = (await desk.look()).breaks
    await desk.reconciliation.accept("amount", found.subject, "agreed with the provider")
    for _ in range(3):
        assert await desk.kinds() == [("fee", "provider", day)]
        desk.end_day()
    await desk.reconciliation.accept("fee", found.subject, "agreed with the provider")
    for _ in range(2):
        assert await desk.kinds() == []
        desk.end_day()


async def test_a_fee_stays_too_high_as_one_break(desk: Desk) -> None:
    desk.plant(await desk.sell(990), "changed", fee=200)
    day = desk.end_day()
    assert await desk.kinds() == [("fee", "provider", day)]
    desk.end_day()
    assert await desk.kinds() == [("fee", "provider", day)]


async def test_an_account_in_another_currency_is_compared_by_what_customers_were_asked_for(desk: Desk) -> None:
    for amount in (1_250, 990):
        desk.plant(await desk.sell(amount), "converted", currency="usd", rate_percent=123)
    desk.end_day()
    answer = await desk.look()
    assert (answer.open_count, answer.day.there.foreign, answer.day.there.gross) == (0, 2, 0)
    assert [(each.why, each.count, each.amount) for each in answer.day.differences] == [("converted", 2, -2_240)]
    said = converted_words(answer.day)
    assert said is not None
    assert said.startswith("2 of stripe's lines were converted")
    again = await desk.look()
    assert (again.seq, again.is_new) == (answer.seq, False)


async def test_a_converted_line_that_asked_for_another_amount_is_a_break_and_is_carried(desk: Desk) -> None:
    desk.plant(await desk.sell(990), "converted", currency="usd", rate_percent=123, asked=991)
    day = desk.end_day()
    assert await desk.kinds() == [("amount", "provider", day)]
    desk.end_day()
    assert await desk.kinds() == [("amount", "provider", day)]


async def test_what_never_comes_is_late_for_two_days_and_then_missing_there(desk: Desk) -> None:
    desk.plant(await desk.sell(990), "gone")
    day = desk.end_day()
    assert await desk.kinds() == [("late", "provider", day)]
    desk.end_day()
    assert await desk.kinds() == [("late", "provider", day)]
    desk.end_day()
    assert await desk.kinds() == [("missing_there", "provider", day)], "and it is as old as its first day"


async def test_a_late_line_closes_its_break_on_a_later_day_with_a_reference(desk: Desk) -> None:
    desk.plant(await desk.sell(990), "late", late_ms=DAY_MS)
    day = desk.end_day()
    opened = await desk.look()
    assert [each.type for each in opened.breaks] == ["late"]
    await desk.sell(500)
    desk.end_day()
    closed = await desk.look()
    assert closed.open_count == 0
    assert [(each.type, each.since, each.entry) for each in closed.day.closed] == [("late", day, opened.seq)]
    assert [(each.why, each.amount) for each in closed.day.differences] == [("other_day", 990)]
    again = await desk.look()
    assert (again.seq, again.is_new) == (closed.seq, False), "the line that came late is no second charge"


async def test_what_another_device_of_the_account_charged_is_missing_here_or_elsewhere(desk: Desk) -> None:
    await desk.sell(990)
    charge = {"amount": 4_000, "currency": "eur", "confirm": True, "payment_method": "pm_card_visa"}
    create = desk.twin.sdk().v1.payment_intents.create_async
    await create({**charge, "metadata": {"tillstone_log": "other-shop.example/X/1", "tillstone_operation": "a/0"}})  # type: ignore[typeddict-item]  # the SDK's stub wants literals
    day = desk.end_day()
    answer = await desk.look()
    assert answer.open_count == 0
    assert [(each.why, each.amount) for each in answer.day.differences] == [("elsewhere", 4_000)]
    await create(charge)  # type: ignore[arg-type]  # the SDK's stub wants literals
    await desk.sell(100)
    day = desk.end_day()
    assert await desk.kinds() == [("missing_here", "shop", day)]


async def test_a_payment_that_is_being_checked_is_late_and_closes_when_it_is_known(desk: Desk) -> None:
    await desk.sell(500)
    desk.twin.twin.faults.add(Fault(fault="drop_reply", path="/v1/payment_intents", method="POST"))
    await pay(desk.shop, card(990))
    await desk.shop.works_done()
    day = desk.end_day()
    opened = await desk.look()
    assert [(each.type, each.since) for each in opened.breaks] == [("late", day)]
    await desk.shop.settle()
    desk.end_day()
    closed = await desk.look()
    assert (closed.open_count, len(closed.day.closed)) == (0, 1)


async def test_what_became_known_only_on_the_next_day_is_late_on_its_own_and_never_doubled(desk: Desk) -> None:
    await desk.sell(500)
    desk.twin.twin.faults.add(Fault(fault="drop_reply", path="/v1/payment_intents", method="POST"))
    await pay(desk.shop, card(990))
    await desk.shop.works_done()
    day = desk.end_day()
    await desk.shop.settle()  # after the cut-off, before anybody looked at the day
    assert await desk.kinds() == [("late", "provider", day)]
    desk.end_day()
    assert await desk.kinds() == []


async def test_a_charge_that_the_log_says_never_happened_is_the_vendors(desk: Desk) -> None:
    """An operation that we declined under our own names: nobody at the shop can have done that."""
    await desk.sell(500)
    await pay(
        desk.shop,
        card(700) | {"tenders": [{"kind": "card", "amount_minor": 700, "source": "pm_card_visa_chargeDeclined"}]},
    )
    await desk.shop.works_done()
    payment = next(
        each for each in desk.twin.store.newest_first("payment_intent") if each["status"] == "requires_payment_method"
    )
    await desk.twin.sdk().v1.payment_intents.confirm_async(payment["id"], {"payment_method": "pm_card_visa"})
    day = desk.end_day()
    assert await desk.kinds() == [("missing_here", "vendor", day)]


async def test_a_second_charge_on_a_later_day_is_doubled(desk: Desk) -> None:
    payment = await desk.sell(990)
    first = desk.end_day()
    assert await desk.kinds() == []
    desk.plant(payment, "late", late_ms=DAY_MS)  # the first line is in the books of the day before already
    await desk.sell(100)
    second = desk.end_day()
    assert first != second
    assert await desk.kinds() == [("doubled", "shop", second)]


async def test_money_that_is_held_moves_nothing_and_its_capture_does(desk: Desk) -> None:
    key = desk.shop.new_key()
    tender = {"kind": "card", "amount_minor": 2_300, "source": "pm_card_visa"}
    await pay(desk.shop, card(2_000) | {"capture": "later", "tip_minor": 300, "tenders": [tender]}, key=key)
    await desk.shop.works_done()
    desk.clock.pass_time(HOUR_MS)
    await desk.shop.pipeline.capture(desk.shop.request("capture", {"of": key, "amount_minor": 2_100}))
    await desk.shop.works_done()
    desk.end_day()
    answer = await desk.look()
    assert (answer.open_count, answer.day.here.charged, answer.day.there.gross) == (0, 2_100, 2_100)


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply"])
async def test_a_capture_that_took_two_attempts_is_one_movement(desk: Desk, fault: FaultName) -> None:
    key = desk.shop.new_key()
    await pay(desk.shop, card(2_000) | {"capture": "later"}, key=key)
    await desk.shop.works_done()
    desk.twin.twin.faults.add(Fault(fault=fault, path="/v1/payment_intents", method="POST"))
    await desk.shop.pipeline.capture(desk.shop.request("capture", {"of": key, "amount_minor": 2_000}))
    await desk.shop.works_done()
    await desk.shop.settle()
    assert [each["captured"] for each in desk.twin.charges()] == [2_000]
    desk.end_day()
    answer = await desk.look()
    assert (answer.breaks, answer.day.here.charged, answer.day.there.gross) == ((), 2_000, 2_000)

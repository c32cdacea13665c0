"""USDC sold by the box itself: the address is durable first, and money that comes is never lost, whoever gave up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.adapters.coinbase_webhook import CoinbaseWebhooks
from appliance.config.secret import Secret
from appliance.device.health import Level
from appliance.ledger.draft import Purpose
from appliance.model.errors import Rejected
from appliance.model.ids import ProviderReference
from appliance.model.operation import Operation
from appliance.payment.contradictions import LOOK_BACK_MS, LOOK_EVERY_MS, TOLD_MS
from appliance.payment.operate import Operations
from appliance.payment.operation_records import find_operation
from appliance.payment.settled import Settled
from appliance.payment.shown import CUSTOMER_ASKED
from appliance.payment.webhooks import Webhooks
from appliance.ports.provider import Confirmed, Unknown
from appliance.runtime.log import Log
from appliance.wiring.cards import contradiction_finding
from provisioning.sandbox.coinbase_twin_events import headers_for
from tests.coinbase_twin_here import COINBASE, WEBHOOK_SECRET, CoinbaseHere, takes_usdc
from tests.fakes.clock import FakeClock
from tests.unit.payment.shop import Shop, open_shop
from tests.until import until

SALE = {"currency": "EUR", "amount_minor": 1250, "tenders": [{"kind": "usdc", "amount_minor": 1250}]}
CASH = {"currency": "EUR", "amount_minor": 1250, "tenders": [{"kind": "cash", "amount_minor": 1250}]}


@dataclass
class Counter:
    """A box that takes USDC, and the twin behind it."""

    shop: Shop
    here: CoinbaseHere

    async def begun(self) -> tuple[str, ProviderReference]:
        """The key of a sale whose customer is shown an address, and the checkout's name."""
        key = self.shop.new_key()
        answer = await self.shop.pipeline.pay(self.shop.request("payment", SALE, key))
        assert answer.state == "being_checked"
        return key, await self.shop.customer_asked(key)

    async def status(self, key: str) -> Any:
        return await self.shop.pipeline.status(self.shop.request("status", {"of": key}))

    def hurry(self, checkout: ProviderReference) -> bool:
        return self.shop.operations.providers.hurry(COINBASE, checkout)


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    clock = FakeClock()
    async with CoinbaseHere(clock) as here, open_shop(tmp_path, clock=clock, more=takes_usdc(here.provider())) as shop:
        yield Counter(shop, here)


async def test_the_customer_pays_and_the_log_says_what_was_moved(counter: Counter) -> None:
    key, checkout = await counter.begun()
    shown = (await counter.status(key)).show
    assert shown == f"{counter.here.base}/payment-links/pl_{checkout}"
    counter.here.pay(checkout)
    assert counter.hurry(checkout)
    await counter.shop.works_done()
    done = await counter.status(key)
    assert (done.state, done.show) == ("approved", None)
    rows = await counter.shop.rows("SELECT kind, state, provider, reference FROM operations")
    assert rows == [("authorise", "confirmed", "coinbase", checkout)]
    page = await counter.shop.ledger.entries(after=-1, limit=50, kinds=frozenset({"outcome"}))
    assert [b"settled" in entry.body for entry in page.entries] == [False, True]
    assert b"13.50 USDC" in page.entries[1].body
    (sums,) = (await counter.shop.rows("SELECT sums FROM till_totals"))[0]
    assert b"usdc" in sums


async def test_nobody_is_told_the_address_before_its_name_is_durable(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, told = Operations.record, list[object]()

    async def first_look(self: Operations, operation: Operation, settled: Settled, intent_hash: bytes) -> None:
        if settled.code == CUSTOMER_ASKED:
            told.append((await counter.status(str(operation.payment_key))).show)
        await record(self, operation, settled, intent_hash)

    monkeypatch.setattr(Operations, "record", first_look)
    key, checkout = await counter.begun()
    assert told == [None]
    assert (await counter.status(key)).show is not None
    counter.here.pay(checkout)
    counter.hurry(checkout)


async def test_an_abort_withdraws_the_checkout_and_nobody_can_pay_it_then(counter: Counter) -> None:
    key, _ = await counter.begun()
    await counter.shop.pipeline.abort(counter.shop.request("abort", {"of": key}))
    await counter.shop.works_done()
    answer = await counter.status(key)
    assert (answer.state, answer.code) == ("declined", "payment_aborted")
    assert [each["status"] for each in counter.here.checkouts()] == ["DEACTIVATED"]


@pytest.mark.parametrize("is_paid", [False, True])
async def test_of_a_sale_that_is_tried_again_in_cash_one_try_keeps_its_money(counter: Counter, is_paid: bool) -> None:
    key, checkout = await counter.begun()
    if is_paid:
        counter.here.pay(checkout, confirm_ms=10_000)  # under way when the till gives up
    await counter.shop.pipeline.pay(counter.shop.request("payment", {**CASH, "retry_of": [key]}))
    await counter.shop.settle()
    answer = await counter.status(key)
    assert answer.state == ("reversed" if is_paid else "declined")
    assert counter.here.kept_minor() == 0
    assert len(counter.here.charges()) == is_paid


async def test_a_refund_under_way_is_being_checked_until_it_arrived(counter: Counter) -> None:
    key, checkout = await counter.begun()
    counter.here.pay(checkout)
    counter.hurry(checkout)
    await counter.shop.works_done()
    counter.here.refunds(after_ms=10_000)
    back = counter.shop.new_key()
    await counter.shop.pipeline.refund(counter.shop.request("refund", {"of": key, "amount_minor": 500}, back))
    await counter.shop.works_done()
    assert (await counter.status(key)).state == "being_checked"
    await counter.shop.settle()
    answer = await counter.status(back)
    assert (answer.state, answer.given_minor, counter.here.kept_minor()) == ("partly_refunded", 500, 750)
    assert await counter.shop.rows("SELECT count(*) FROM operations WHERE kind = 'refund'") == [(1,)]


async def test_money_that_comes_after_declined_is_told_to_the_owner_and_changes_nothing(counter: Counter) -> None:
    shop, here = counter.shop, counter.here
    counted: list[str] = []
    webhooks = Webhooks(
        reader=CoinbaseWebhooks(secret=Secret(WEBHOOK_SECRET.encode()), clock=shop.clock),
        log_origin=shop.audience,
        provider=COINBASE,
        hurry=counter.hurry,
        find=lambda operation, known: shop.operations.find(operation, since_ms=operation.prepared_ms, known=known),
        resolver=shop.resolver,
        ledger=shop.ledger,
        clock=shop.clock,
        log=Log(sink=lambda _line: None, clock=shop.clock),
        count=counted.append,
    )
    here.hook()
    key, checkout = await counter.begun()
    await shop.pipeline.abort(shop.request("abort", {"of": key}))
    await shop.works_done()
    here.pay(checkout, "late")
    assert await here.deliver() == 1
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(webhooks.run())
        for body, headers in here.received:
            webhooks.take(body, headers)
            with pytest.raises(Rejected, match="not by the secret"):
                webhooks.take(body, headers_for("somebody-elses", 1, "e", "k", body))
        await until("both webhooks looked into", lambda: len(counted) >= 2)
        looking.cancel()
    assert sorted(counted) == ["contradicts", "forged"]
    assert webhooks.alarms() == {"contradicts": 1, "forged": 1}
    assert (await counter.status(key)).state == "declined"
    assert [str(each.payment) for each in shop.resolver.contradictions.told] == [key]


async def closed_and_paid(counter: Counter) -> str:
    """A sale that a till gave up, and whose money came all the same."""
    key, checkout = await counter.begun()
    await counter.shop.pipeline.abort(counter.shop.request("abort", {"of": key}))
    await counter.shop.works_done()
    counter.here.pay(checkout, "late")
    return key


async def contradictions(shop: Shop) -> list[bytes]:
    page = await shop.ledger.entries(after=-1, limit=50, kinds=frozenset({"contradicted"}))
    return [entry.body for entry in page.entries]


async def test_without_webhooks_the_box_looks_back_and_writes_it_down_once(counter: Counter) -> None:
    shop = counter.shop
    await shop.resolver.look()  # the next one is ten minutes later
    key = await closed_and_paid(counter)
    await shop.resolver.look()
    assert shop.resolver.contradictions.told == ()
    assert contradiction_finding(()).level is Level.OK
    for _ in range(3):
        shop.clock.pass_time(LOOK_EVERY_MS)
        await shop.resolver.look()
    (body,) = await contradictions(shop)
    assert b"13.50 USDC" in body
    assert b"rejected" in body
    assert (await counter.status(key)).state == "declined"
    finding = contradiction_finding(shop.resolver.contradictions.told)
    assert finding.level is Level.COPING
    assert f"12.50 EUR at coinbase for {key} (entry " in finding.sentence
    shop.clock.pass_time(TOLD_MS)
    await shop.resolver.look()
    assert shop.resolver.contradictions.told == ()


async def test_two_looks_at_once_write_one_entry(counter: Counter) -> None:
    shop = counter.shop
    key = await closed_and_paid(counter)
    known = await shop.ledger.read(lambda connection: find_operation(connection, f"{key}/0"), purpose=Purpose.OUTCOME)
    assert known is not None
    answer = Confirmed(provider_reference=ProviderReference("1"), amount=known.operation.money, confirmed_ms=1)
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(shop.resolver.contradictions.tell(known, answer))
    assert len(await contradictions(shop)) == 1


async def test_looking_back_at_a_provider_that_hangs_asks_it_once(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await closed_and_paid(counter)
    asked: list[str] = []

    async def hang(_: Operations, operation: Operation, **__: object) -> Unknown:
        asked.append(operation.operation_id)
        return Unknown(reason="deadline_passed", provider_reference=ProviderReference("1"))

    monkeypatch.setattr(Operations, "find", hang)
    await counter.shop.resolver.contradictions.look_back()
    assert len(asked) == 1
    monkeypatch.undo()
    counter.shop.clock.pass_time(LOOK_EVERY_MS)
    await counter.shop.resolver.contradictions.look_back()
    assert len(await contradictions(counter.shop)) == 3


async def test_what_was_closed_long_ago_is_not_read_again(counter: Counter) -> None:
    await closed_and_paid(counter)
    counter.shop.clock.pass_time(LOOK_BACK_MS + LOOK_EVERY_MS)
    await counter.shop.resolver.look()
    assert await contradictions(counter.shop) == []


async def test_a_payment_that_has_its_money_is_never_contradicted(counter: Counter) -> None:
    key, checkout = await counter.begun()
    counter.here.pay(checkout)
    counter.hurry(checkout)
    await counter.shop.works_done()
    known = await counter.shop.ledger.read(
        lambda connection: find_operation(connection, f"{key}/0"), purpose=Purpose.OUTCOME
    )
    assert known is not None
    answer = Confirmed(provider_reference=checkout, amount=known.operation.money, confirmed_ms=1)
    await counter.shop.resolver.contradictions.tell(known, answer)
    assert await contradictions(counter.shop) == []

"""Paper beside the sales: an original once, copies say so, and a printer that is away costs no sale anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.ledger.archive import Archive
from appliance.ledger.draft import Purpose
from appliance.model.errors import Unavailable
from appliance.model.ids import request_key
from appliance.payment.drafts import draft
from appliance.ports.printer import Printed, PrinterState, Row, page_of
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.slip.printing import LOOK_AGAIN_MS, QUEUE_PAGES_MAX, WAIT_FOR_PAPER_MS, Printing
from appliance.slip.reader import SlipReader
from appliance.slip.slip import ShopFace
from appliance.wire import till_entries
from tests.fakes.log import asked
from tests.fakes.printer import FakePrinter
from tests.fakes.provider import Switch
from tests.unit.payment.shop import Shop, open_shop

WAIT_S = 60
CASH: dict[str, Any] = {
    "currency": "EUR",
    "amount_minor": 1250,
    "tenders": [{"kind": "cash", "amount_minor": 1250}],
}
CARD: dict[str, Any] = {**CASH, "tenders": [{"kind": "card", "amount_minor": 1250, "source": "pm_card_visa"}]}
BAD_CARD = "pm_card_visa_chargeDeclinedInsufficientFunds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    shop: Shop
    printer: FakePrinter
    printing: Printing
    metrics: Metrics

    async def sell(self, body: dict[str, Any], key: str | None = None) -> str:
        key = key or self.shop.new_key()
        await self.shop.pipeline.pay(self.shop.request("payment", body, key))
        await self.shop.works_done()
        return key

    async def next_result(self) -> Printed:
        return (await asyncio.wait_for(self.printer.results.get(), WAIT_S)).printed

    async def drawer_opened(self) -> None:
        """Once more since the last call."""
        await asyncio.wait_for(self.printer.kicked.wait(), WAIT_S)
        self.printer.kicked.clear()

    def texts(self) -> list[str]:
        return ["\n".join(part.text for part in page if isinstance(part, Row)) for page in self.printer.pages]

    def counted(self, result: str) -> bool:
        return f'tillstone_pages_total{{result="{result}"}}' in self.metrics.render().decode()


@asynccontextmanager
async def paper(
    folder: Path, *, prints_each_sale: bool = True, is_working: bool = True, terminals: tuple[str, ...] = ()
) -> AsyncIterator[Paper]:
    async with open_shop(folder) as shop:
        archive = await Archive.open(folder, lambda: shop.ledger.tail)
        printer, metrics = FakePrinter(), Metrics()
        printing = Printing(
            printer=printer,
            reader=SlipReader(ledger=shop.ledger, archive=archive, shop=ShopFace(name="Corner Shop"), page_url=""),
            ledger=shop.ledger,
            clock=shop.clock,
            metrics=metrics,
            log=Log(sink=lambda _line: None, clock=shop.clock),
            columns=42,
            prints_each_sale=prints_each_sale,
            opens_drawer=True,
            terminals=terminals,
        )
        async with asyncio.TaskGroup() as group:
            services = [group.create_task(printing.follow())]
            services.append(group.create_task(printing.open_drawers()))
            services += [group.create_task(printing.work())] if is_working else []
            await shop.clock.settle()
            yield Paper(shop=shop, printer=printer, printing=printing, metrics=metrics)
            for service in services:
                service.cancel()
        await archive.close()


async def test_each_sale_has_one_original_and_cash_opens_the_drawer(tmp_path: Path) -> None:
    async with paper(tmp_path) as box:
        await box.sell(CASH)
        assert await box.next_result() is Printed.DONE
        await box.sell(CARD)
        assert await box.next_result() is Printed.DONE
        first, second = box.texts()
        assert "PAID" in first
        assert "COPY" not in first + second
        await box.drawer_opened()
        assert box.printer.kicks == 1


async def test_drawer_does_not_wait_for_paper(tmp_path: Path) -> None:
    async with paper(tmp_path) as box:
        box.printer.how = PrinterState.PAPER_OUT
        await box.sell(CASH)
        await box.drawer_opened()
        assert await box.next_result() is Printed.NOT_BEGUN
        await box.sell(CASH)  # the first page still waits for paper
        await box.drawer_opened()
        assert (box.printer.kicks, box.texts()) == (2, [])


async def test_drawer_opens_where_nothing_is_printed_by_itself(tmp_path: Path) -> None:
    async with paper(tmp_path, prints_each_sale=False) as box:
        await box.sell(CASH)
        await box.drawer_opened()
        assert (box.printer.kicks, box.texts()) == (1, [])


async def test_copy_says_copy_and_leaves_the_drawer_shut(tmp_path: Path) -> None:
    async with paper(tmp_path, prints_each_sale=False) as box:
        key = await box.sell(CASH)
        await box.drawer_opened()
        box.printing.copy(request_key(key))
        assert await box.next_result() is Printed.DONE
        assert "*** COPY ***" in box.texts()[0]
        assert box.printer.kicks == 1


async def test_refund_is_printed_and_what_is_declined_is_not(tmp_path: Path) -> None:
    async with paper(tmp_path) as box:
        key = await box.sell(CASH)
        await box.next_result()
        await box.sell({**CARD, "tenders": [{**CARD["tenders"][0], "source": BAD_CARD}]})
        await box.shop.pipeline.refund(box.shop.request("refund", {"of": key}))
        await box.next_result()
        assert [("REFUNDED" in text, "DECLINED" in text) for text in box.texts()] == [(False, False), (True, False)]


async def test_refused_refund_prints_no_second_original(tmp_path: Path) -> None:
    async with paper(tmp_path) as box:
        of = await box.sell(CARD)
        await box.next_result()
        box.shop.provider.strike(Switch.REFUSE)
        await box.shop.pipeline.refund(box.shop.request("refund", {"of": of}))
        await box.shop.works_done()
        await box.sell(CASH)
        await box.next_result()
        assert ["12.50" in text for text in box.texts()] == [True, True], "one page for each sale"
        assert "Cash" in box.texts()[1]


async def test_stored_sale_that_is_handed_over_later_prints_nothing(tmp_path: Path) -> None:
    async with paper(tmp_path) as box:
        await box.sell({**CASH, "sold_at_ms": box.shop.clock.now_ms() - 3_600_000})
        await box.sell(CASH)
        await box.next_result()
        assert len(box.texts()) == 1


async def test_printer_out_of_paper_is_waited_for_and_sales_go_on(tmp_path: Path) -> None:
    async with paper(tmp_path) as box:
        box.printer.how = PrinterState.PAPER_OUT
        await box.sell(CASH)
        assert await box.next_result() is Printed.NOT_BEGUN
        await box.sell(CASH)  # nobody waits
        assert box.printing.state is PrinterState.PAPER_OUT
        box.printer.how = PrinterState.READY
        await box.shop.clock.advance(LOOK_AGAIN_MS)
        assert await box.next_result() is Printed.DONE
        assert await box.next_result() is Printed.DONE


async def test_sale_that_was_refunded_while_it_waited_for_paper_is_not_printed_as_paid(tmp_path: Path) -> None:
    async with paper(tmp_path) as box:
        box.printer.how = PrinterState.PAPER_OUT
        key = await box.sell(CASH)
        assert await box.next_result() is Printed.NOT_BEGUN
        await box.shop.pipeline.refund(box.shop.request("refund", {"of": key}))
        box.printer.how = PrinterState.READY
        await box.shop.clock.advance(LOOK_AGAIN_MS)
        assert await box.next_result() is Printed.DONE
        (text,) = box.texts()
        assert "REFUNDED" in text


async def test_slip_whose_customer_has_left_is_forgotten(tmp_path: Path) -> None:
    async with paper(tmp_path) as box:
        box.printer.how = PrinterState.SILENT
        await box.sell(CASH)
        await box.next_result()
        for _ in range(WAIT_FOR_PAPER_MS // LOOK_AGAIN_MS):
            await box.shop.clock.advance(LOOK_AGAIN_MS)
            await box.next_result()
        assert box.counted("not_begun")
        assert box.texts() == []


async def test_page_that_may_be_on_paper_is_not_sent_again(tmp_path: Path) -> None:
    async with paper(tmp_path) as box:
        box.printer.loses_answers = True
        await box.sell(CASH)
        assert await box.next_result() is Printed.UNCERTAIN
        box.printer.loses_answers = False
        await box.sell(CASH)
        assert await box.next_result() is Printed.DONE
        assert len(box.texts()) == 2
        assert box.counted("uncertain")


async def test_full_queue_drops_paper_and_never_a_sale(tmp_path: Path) -> None:
    async with paper(tmp_path, is_working=False) as box:
        for number in range(QUEUE_PAGES_MAX):
            box.printing.report(f"report {number}", page_of(["Z report"]))
        with pytest.raises(Unavailable, match="printer_busy"):
            box.printing.report("one more", ())
        await box.sell(CASH)
        for _ in range(1_000):
            if box.counted("dropped"):
                break
            await asyncio.sleep(0.01)
        assert box.counted("dropped")


async def test_report_is_printed_as_it_is(tmp_path: Path) -> None:
    async with paper(tmp_path) as box:
        box.printing.report("z-1", page_of(["Z REPORT 1", "EUR 12.50"]))
        await box.next_result()
        assert box.texts() == ["Z REPORT 1\nEUR 12.50"]


async def test_printer_serves_the_terminals_that_it_was_given(tmp_path: Path) -> None:
    async with paper(tmp_path, terminals=("till-2",)) as box:
        await box.shop.pair("till-2")
        await box.sell(CASH)
        await box.shop.pipeline.pay(box.shop.request("payment", CASH, terminal="till-2"))
        assert await box.next_result() is Printed.DONE
        await box.drawer_opened()
        assert (box.printer.kicks, len(box.texts())) == (1, 1)
        assert "till-2" in box.texts()[0]


@pytest.mark.parametrize("kind", [till_entries.DRAWER_NO_SALE, till_entries.DRAWER_FLOAT])
async def test_drawer_opens_for_what_is_done_to_it(tmp_path: Path, kind: str) -> None:
    async with paper(tmp_path) as box:
        body = till_entries.DrawerEntry(asked=asked(1), drawer="till-1", currency="EUR")
        act = draft(kind, "till-1", box.shop.clock.now_ms(), body, ())
        await box.shop.ledger.append([act], purpose=Purpose.OUTCOME)
        await box.drawer_opened()
        assert (box.printer.kicks, box.texts()) == (1, [])

"""A QR code takes a tenth of a second to compute: payments go on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import segno
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from appliance.adapters.printer import EscPosPrinter
from appliance.api.local.slip import SlipRoutes
from appliance.ports.printer import Code, Printed
from provisioning.sandbox.printer_twin import PrinterTwin, on_tcp
from tests.contract.test_printer import settings
from tests.unit.payment.test_refund import sold
from tests.unit.slip.test_standing import shop_with_slips

WAIT_S = 5


def watched(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Every code waits until the event loop has run something; whether it did, code by code."""
    turned: list[bool] = []
    make_qr = segno.make_qr
    loop = asyncio.get_running_loop()

    def slow(*arguments: Any, **options: Any) -> segno.QRCode:
        has_turned = threading.Event()
        loop.call_soon_threadsafe(has_turned.set)
        turned.append(has_turned.wait(WAIT_S))
        return make_qr(*arguments, **options)

    monkeypatch.setattr(segno, "make_qr", slow)
    return turned


@pytest.fixture
def address() -> Iterator[str]:
    """Of a printer on TCP."""
    with on_tcp(PrinterTwin().take) as listening:
        yield listening


async def test_loop_turns_while_a_page_is_encoded_for_the_printer(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = watched(monkeypatch)
    printer = EscPosPrinter(settings(address, deadline_s=WAIT_S))
    result = await printer.print((Code("https://shop.example/check/#1.A"),))
    await printer.close()
    assert result.printed is Printed.DONE
    assert turned == [True]


async def test_loop_turns_while_a_slip_is_drawn_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = watched(monkeypatch)
    async with shop_with_slips(tmp_path) as (shop, reader):
        of = await sold(shop, cash=1000)
        router = web.UrlDispatcher()
        SlipRoutes(reader, None).add_to(router)
        request = make_mocked_request("GET", f"/slip?key={of}")
        found = await router.resolve(request)
        response = await found.handler(request)
    assert isinstance(response, web.Response)
    assert response.status == 200
    assert turned == [True]

"""What a till asks of a box that may die, and the check afterwards. Holds no test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from appliance.model.ids import RequestKey
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.terminal.client import TerminalClient
from tests.crash.invariants import Told, check_log, check_money
from tests.crash.shop import CrashShop

AMOUNT = 1250
PART = 450
ANSWER_MS = 40_000

Act = Callable[[TerminalClient, RequestKey, RequestKey, int], Awaitable[PaymentAnswer]]
"""Asks the box: client, key of the request, key of the payment it is about, how long to wait."""


def sale(kind: str) -> PaymentBody:
    """Cash, card, or `later`: a card that is captured later."""
    tender = TenderBody(kind="cash" if kind == "cash" else "card", amount_minor=AMOUNT)
    capture: Literal["at_once", "later"] = "later" if kind == "later" else "at_once"
    tip = AMOUNT - PART if kind == "later" else 0
    return PaymentBody(currency="EUR", tenders=(tender,), amount_minor=AMOUNT - tip, tip_minor=tip, capture=capture)


async def pay_cash(client: TerminalClient, key: RequestKey, _of: RequestKey, wait_ms: int) -> PaymentAnswer:
    return await client.payment(sale("cash"), key=key, deadline=client.deadline(wait_ms))


async def pay_card(client: TerminalClient, key: RequestKey, _of: RequestKey, wait_ms: int) -> PaymentAnswer:
    return await client.payment(sale("card"), key=key, deadline=client.deadline(wait_ms))


async def pay_later(client: TerminalClient, key: RequestKey, _of: RequestKey, wait_ms: int) -> PaymentAnswer:
    return await client.payment(sale("later"), key=key, deadline=client.deadline(wait_ms))


async def capture(client: TerminalClient, key: RequestKey, of: RequestKey, wait_ms: int) -> PaymentAnswer:
    return await client.capture(of, key=key, amount_minor=PART, deadline=client.deadline(wait_ms))


async def refund(client: TerminalClient, key: RequestKey, of: RequestKey, wait_ms: int) -> PaymentAnswer:
    return await client.refund(of, key=key, deadline=client.deadline(wait_ms))


async def refund_part(client: TerminalClient, key: RequestKey, of: RequestKey, wait_ms: int) -> PaymentAnswer:
    return await client.refund(of, key=key, amount_minor=PART, deadline=client.deadline(wait_ms))


async def reverse(client: TerminalClient, key: RequestKey, of: RequestKey, wait_ms: int) -> PaymentAnswer:
    return await client.reversal(of, key=key, deadline=client.deadline(wait_ms))


async def abort(client: TerminalClient, key: RequestKey, of: RequestKey, wait_ms: int) -> PaymentAnswer:
    return await client.abort(of, key=key, deadline=client.deadline(wait_ms))


async def check_all(shop: CrashShop, told: list[Told], copy: Path) -> None:
    await shop.kill()
    payments = await asyncio.to_thread(check_log, shop, copy, told)
    charges = await shop.twin.charges()
    check_money(payments, [each for each in charges if each["metadata"]["tillstone_payment"] in payments])

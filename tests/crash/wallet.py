"""What a till does where a provider shows the customer an address, and the check afterwards. Holds no test."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import PaymentBody, TenderBody, TenderName
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import AMOUNT, ANSWER_MS, PART
from tests.crash.invariants import Told, check_log, check_money
from tests.crash.shop import CrashShop, Twin

LAST_WORDS_MS = 5_000


def set_up(shop: CrashShop, section: str, secret_name: str, secret: str, settings: dict[str, object]) -> None:
    """The settings name this provider from the next start on; `{secret}` in a setting is its secret's file."""
    file = shop.folder.box / secret_name
    file.touch(mode=0o600)
    file.write_text(f"{secret}\n")
    lines = ["", f"[provider.{section}]"]
    lines += [
        f"{name} = {value}"
        if isinstance(value, int | list)
        else f'{name} = "{str(value).replace("{secret}", str(file))}"'
        for name, value in settings.items()
    ]
    toml = shop.folder.box / "tillstone.toml"
    toml.write_text("\n".join([toml.read_text(), *lines, ""]))


async def pay(client: TerminalClient, key: RequestKey, wait_ms: int, kind: TenderName = "paypal") -> PaymentAnswer:
    body = PaymentBody(currency="EUR", tenders=(TenderBody(kind=kind, amount_minor=AMOUNT),), amount_minor=AMOUNT)
    return await client.payment(body, key=key, deadline=client.deadline(wait_ms))


async def shown(client: TerminalClient, key: RequestKey) -> str:
    """The address that the till is told to show, by its event stream."""
    async for event in client.events():
        if event.key == str(key) and event.show is not None:
            return event.show
    raise AssertionError("the stream never ends")


async def pay_and_die(shop: CrashShop, point: str, kind: TenderName = "paypal") -> tuple[RequestKey, PaymentAnswer]:
    """Kill the box at `point` of a payment, and ask again; its key, and the answer of the next start."""
    await shop.start(point)
    async with shop.till() as client:
        key = client.new_key()
        with suppress(OutcomeUnknown, Unavailable, Rejected):
            await pay(client, key, LAST_WORDS_MS, kind)
        assert await shop.died() == point.removesuffix(" 2").removesuffix(" 3")
    await shop.start()
    async with shop.till() as client:
        return key, await pay(client, key, ANSWER_MS, kind)


async def refund_once(shop: CrashShop, there: Twin, point: str, copy: Path, kind: TenderName = "paypal") -> None:
    """Sell, kill the box at `point` of a refund of a part, and see that part given back once."""
    key = await refund_and_die(shop, point, kind)
    (charge,) = await there.charges(str(key))
    assert charge["refunded"] == PART
    await check(shop, there, key, "partly_refunded", copy)


async def refund_and_die(shop: CrashShop, point: str, kind: TenderName) -> RequestKey:
    """Sell, kill the box at `point` of a refund of a part, and ask again; the payment's key."""
    await shop.start()
    async with shop.till() as client:
        key, back = client.new_key(), client.new_key()
        assert (await pay(client, key, ANSWER_MS, kind)).state == "approved"
    await shop.kill()
    await shop.start(point)
    async with shop.till() as client:
        with suppress(OutcomeUnknown, Unavailable):
            await client.refund(key, key=back, amount_minor=PART, deadline=client.deadline(LAST_WORDS_MS))
        await shop.died()
    await shop.start()
    async with shop.till() as client:
        answer = await client.refund(key, key=back, amount_minor=PART, deadline=client.deadline(ANSWER_MS))
    assert (answer.state, answer.given_minor) == ("partly_refunded", PART)
    return key


async def check(shop: CrashShop, there: Twin, key: RequestKey, state: str, copy: Path) -> None:
    """End the box, and compare its log with the money."""
    await shop.kill()
    payments = await asyncio.to_thread(check_log, shop, copy, [Told(key=str(key), payment=str(key), state=state)])
    charges = await there.charges()
    check_money(payments, [each for each in charges if each["metadata"].get("tillstone_payment") in payments])

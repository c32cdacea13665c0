"""The crash table of the architecture, line by line: the box dies there, comes back, and nobody was cheated.

Each case names the place of its end, what is done there, and the one final answer that a retry with the same key gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.wire.answers import BatchAnswer
from appliance.wire.requests import BatchBody, BatchItem
from provisioning.terminal.client import TerminalClient
from tests.crash.asks import (
    AMOUNT,
    ANSWER_MS,
    Act,
    abort,
    capture,
    check_all,
    pay_card,
    pay_cash,
    pay_later,
    refund,
    refund_part,
    reverse,
    sale,
)
from tests.crash.invariants import Told
from tests.crash.shop import CrashShop

LAST_WORDS_MS = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`sold` is the tender of a payment made beforehand, that `act` is about; empty: there is none.

    `or_final` is there where the provider may or may not have been asked at that moment: one of the two, for ever.
    """

    name: str
    act: Act
    points: tuple[str, ...]
    final: str
    sold: str = ""
    or_final: str = ""


LINES = (
    Line(
        name="cash",
        act=pay_cash,
        points=("before sale", "after sale", "signed", "answer payment"),
        final="approved",
    ),
    Line(
        name="card",
        act=pay_card,
        points=("before intent", "before outcome", "after outcome", "signed", "answer status"),
        final="approved",
    ),
    Line(
        name="card held",
        act=pay_later,
        points=("before intent", "after ask", "before outcome", "after outcome", "answer status"),
        final="authorised",
    ),
    Line(
        name="capture",
        act=capture,
        sold="later",
        points=(
            "before intent",
            "after intent",
            "before ask",
            "after ask",
            "before outcome",
            "after outcome",
            "answer capture",
        ),
        final="approved",
    ),
    Line(
        name="reversal of what is held",
        act=reverse,
        sold="later",
        points=("before intent", "after intent", "before ask", "after ask", "before outcome", "after outcome"),
        final="reversed",
    ),
    Line(
        name="refund of cash",
        act=refund,
        sold="cash",
        points=("before refund", "after refund", "signed", "answer refund"),
        final="refunded",
    ),
    Line(
        name="refund of a card",
        act=refund,
        sold="card",
        points=(
            "before intent",
            "after intent",
            "before ask",
            "after ask",
            "before outcome",
            "after outcome",
            "signed",
            "answer refund",
        ),
        final="refunded",
    ),
    Line(
        name="part of cash",
        act=refund_part,
        sold="cash",
        points=("before refund", "after refund", "answer refund"),
        final="partly_refunded",
    ),
    Line(
        name="part of a card",
        act=refund_part,
        sold="card",
        points=("before intent", "after intent", "before ask", "after ask", "before outcome", "after outcome"),
        final="partly_refunded",
    ),
    Line(
        name="reversal of cash",
        act=reverse,
        sold="cash",
        points=("before reversal", "after reversal", "signed", "answer reversal"),
        final="reversed",
    ),
    Line(
        name="reversal of a card",
        act=reverse,
        sold="card",
        points=(
            "before intent",
            "after intent",
            "before ask",
            "after ask",
            "after outcome",
            "signed",
            "answer reversal",
        ),
        final="reversed",
    ),
    Line(
        name="reversal of an unknown key",
        act=reverse,
        points=("before tombstone", "after tombstone", "signed", "answer reversal"),
        final="cancelled",
    ),
    Line(
        name="abort of an unknown key",
        act=abort,
        points=("before tombstone", "after tombstone", "signed", "answer abort"),
        final="cancelled",
    ),
    # The provider was proven not to have been asked: the payment is closed, and nothing was charged.
    Line(name="card never asked", act=pay_card, points=("after intent", "before ask"), final="not_charged"),
    Line(name="card asked", act=pay_card, points=("after ask",), final="approved"),
    Line(name="card accepted", act=pay_card, points=("answer payment",), final="approved", or_final="not_charged"),
)


async def die_during(shop: CrashShop, point: str, ask: Callable[[TerminalClient], Awaitable[object]]) -> None:
    """Start a box that ends at `point`, and ask until it does."""
    await shop.start(die_at=point)
    async with shop.till() as client, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(attempt(client, ask))
        assert await shop.died() == point
        asking.cancel()


async def attempt(client: TerminalClient, ask: Callable[[TerminalClient], Awaitable[object]]) -> None:
    """Ask a box that dies meanwhile: whatever the till hears, it must not be a refusal."""
    with suppress(OutcomeUnknown, Unavailable):
        await ask(client)


@pytest.mark.parametrize(
    ("line", "point"), [pytest.param(line, point, id=f"{line.name}-{point}") for line in LINES for point in line.points]
)
async def test_the_box_dies_here_and_a_retry_gets_the_one_final_answer(
    shop: CrashShop, tmp_path: Path, line: Line, point: str
) -> None:
    await shop.start()
    async with shop.till() as client:
        key = client.new_key()
        of = client.new_key() if line.sold or line.final == "cancelled" else key
        if line.sold:
            sold = await client.payment(sale(line.sold), key=of, deadline=client.deadline(ANSWER_MS))
            assert sold.state == ("authorised" if line.sold == "later" else "approved")
    await shop.kill()

    await die_during(shop, point, lambda client: line.act(client, key, of, LAST_WORDS_MS))

    await shop.start()
    async with shop.till() as client:
        first = await line.act(client, key, of, ANSWER_MS)
        again = await line.act(client, key, of, ANSWER_MS)
        asked = await client.status(of, deadline=client.deadline(ANSWER_MS))
        assert first.state in (line.final, line.or_final)
        assert first.state == again.state == asked.state
        assert first.seq == again.seq == asked.seq
        assert first.receipt is not None
        if line.final == "cancelled":
            with pytest.raises(Rejected, match="payment_cancelled"):
                await client.payment(sale("cash"), key=of, deadline=client.deadline(ANSWER_MS))
    await check_all(shop, [Told(key=str(key), payment=str(of), state=first.state)], tmp_path / "copy")


@pytest.mark.parametrize("point", ["before batch", "after batch", "signed", "answer batch"])
async def test_a_batch_is_in_the_log_once_wherever_the_box_dies(shop: CrashShop, tmp_path: Path, point: str) -> None:
    async with shop.till() as client:
        key = client.new_key()
        keys = [client.new_key() for _ in range(20)]
    body = BatchBody(items=tuple(BatchItem(key=str(each), payment=sale("cash")) for each in keys))

    async def send(client: TerminalClient, wait_ms: int) -> BatchAnswer:
        return await client.batch(body, key=key, deadline=client.deadline(wait_ms))

    await die_during(shop, point, lambda client: send(client, LAST_WORDS_MS))
    await shop.start()
    async with shop.till() as client:
        answer = await send(client, ANSWER_MS)
        again = await send(client, ANSWER_MS)
    assert {result.state for result in answer.results} == {"approved"}
    assert answer.results == again.results
    told = [Told(key=str(each), payment=str(each), state="approved") for each in keys]
    await check_all(shop, told, tmp_path / "copy")


@pytest.mark.parametrize("verb", ["payment", "refund"])
async def test_killed_while_the_provider_works_the_money_moves_once(shop: CrashShop, tmp_path: Path, verb: str) -> None:
    await shop.start()
    async with shop.till() as client:
        of = client.new_key()
        key = client.new_key() if verb == "refund" else of
        if verb == "refund":
            await client.payment(sale("card"), key=of, deadline=client.deadline(ANSWER_MS))
    act = refund if verb == "refund" else pay_card
    await shop.twin.fault("hang_after_processing", method="POST")

    async with shop.till() as client, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(attempt(client, lambda dying: act(dying, key, of, LAST_WORDS_MS)))
        await shop.twin.until_moved(str(of), refunded=AMOUNT if verb == "refund" else 0)
        await shop.kill()
        asking.cancel()
    await shop.twin.heal()
    await shop.start()
    async with shop.till() as client:
        answer = await act(client, key, of, ANSWER_MS)
    final = "approved" if verb == "payment" else "refunded"
    assert answer.state == final
    await check_all(shop, [Told(key=str(key), payment=str(of), state=final)], tmp_path / "copy")


UNCLEAR = [
    "drop_reply",
    "hang_after_processing",
    "error_after_processing",
    "truncated_json",
    "truncated_reply",
    "wrong_amount",
]


@pytest.mark.parametrize("fault", UNCLEAR)
async def test_an_unclear_answer_is_being_checked_and_then_read_back_as_one_charge(
    shop: CrashShop, tmp_path: Path, fault: str
) -> None:
    await shop.start()
    await shop.twin.fault(fault, method="POST")
    await shop.twin.fault("error_then_success", method="GET", times=1_000)
    async with shop.till() as client:
        key = client.new_key()
        first = await pay_card(client, key, key, 1_500)
        assert first.state == "being_checked"
        await shop.kill()
        await shop.twin.heal()
        await shop.start()
        assert (await pay_card(client, key, key, ANSWER_MS)).state == "approved"
    assert len(await shop.twin.charges(str(key))) == 1
    await check_all(shop, [Told(key=str(key), payment=str(key), state="approved")], tmp_path / "copy")


@pytest.mark.parametrize("fault", ["drop_request", "hang"])
async def test_absence_that_is_proven_is_not_charged(shop: CrashShop, tmp_path: Path, fault: str) -> None:
    await shop.start()
    await shop.twin.fault(fault, method="POST")
    async with shop.till() as client:
        key = client.new_key()
        assert (await pay_card(client, key, key, 300)).state == "being_checked"
        await shop.kill()
        await shop.twin.heal()
        await shop.start()
        assert (await pay_card(client, key, key, ANSWER_MS)).state == "not_charged"
    assert await shop.twin.charges(str(key)) == []
    await check_all(shop, [Told(key=str(key), payment=str(key), state="not_charged")], tmp_path / "copy")


@pytest.mark.parametrize("act", [reverse, abort], ids=["reversal", "abort"])
@pytest.mark.parametrize(
    "point", ["", "before reversal_wanted", "after reversal_wanted", "answer"], ids=lambda point: point or "nowhere"
)
async def test_a_payment_stopped_while_it_is_open_is_reversed_after_its_outcome(
    shop: CrashShop, tmp_path: Path, act: Act, point: str
) -> None:
    await shop.start()
    await shop.twin.fault("drop_reply", method="POST")
    await shop.twin.fault("error_then_success", method="GET", times=1_000)
    verb = "reversal" if act is reverse else "abort"
    async with shop.till() as client:
        of, key = client.new_key(), client.new_key()
        assert (await pay_card(client, of, of, 1_000)).state == "being_checked"
        if point:
            await shop.kill()
            where = f"answer {verb}" if point == "answer" else point
            await die_during(shop, where, lambda dying: act(dying, key, of, LAST_WORDS_MS))
            await shop.start()
        # Asked while the provider cannot be read: an abort that came after the outcome would rightly be refused.
        assert (await act(client, key, of, 1_000)).state == "being_checked"
        await shop.twin.heal()
        # Never "approved": the till asked for it not to stand.
        assert (await act(client, key, of, ANSWER_MS)).state == "reversed"
    (charge,) = await shop.twin.charges(str(of))
    assert charge["refunded"] == AMOUNT
    await check_all(shop, [Told(key=str(key), payment=str(of), state="reversed")], tmp_path / "copy")


@pytest.mark.parametrize("point", ["before intent", "after intent", "before ask", "after ask", "before outcome"])
async def test_the_reversal_that_was_due_is_made_once_wherever_the_box_dies(
    shop: CrashShop, tmp_path: Path, point: str
) -> None:
    """The box dies in the resolver's own reversal, which no till retries."""
    await shop.start()
    await shop.twin.fault("drop_reply", method="POST")
    await shop.twin.fault("error_then_success", method="GET", times=1_000)
    async with shop.till() as client:
        of, key = client.new_key(), client.new_key()
        await pay_card(client, of, of, 1_000)
        assert (await reverse(client, key, of, 500)).state == "being_checked"
    await shop.kill()
    await shop.twin.heal()
    await shop.start(die_at=point)
    assert await shop.died() == point
    await shop.start()
    async with shop.till() as client:
        assert (await reverse(client, key, of, ANSWER_MS)).state == "reversed"
    await check_all(shop, [Told(key=str(key), payment=str(of), state="reversed")], tmp_path / "copy")

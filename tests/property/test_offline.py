"""Whatever happens to cards, lines, banks and devices: what hangs on banks is the sum that the log tells, never above a
limit at the device itself, and in the end each card was charged once or nobody was.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.crypto import cbor
from appliance.ledger.entry import ENTRY_BYTES_MAX, decode
from appliance.model.limits import HOUR_MS
from appliance.model.offline import Exposure
from appliance.model.till import Scope
from appliance.ports.provider import Authorise
from appliance.till.records import read_period
from appliance.wire.entries import terminal_of
from tests.fakes.forwards import FakeForwards
from tests.fakes.provider import Switch
from tests.fakes.read_first import FakeReadFirst
from tests.unit.payment.offline import LIMITS, Till, open_till
from tests.unit.payment.shop import SETTLE_MS, rebuilt_equal

TILLS = ("till-1", "till-2")
LOSSES = [Switch.NONE, Switch.NOT_SENT, Switch.FAIL_BEFORE, Switch.FAIL_AFTER, Switch.REFUSE]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sell"), st.integers(1, LIMITS.sale_minor_max + 500), st.sampled_from(LOSSES)),
        st.tuples(st.just("forward"), st.integers(1, 4), st.sampled_from(LOSSES)),
        st.tuples(st.just("reverse"), st.integers(0, 9), st.sampled_from(LOSSES)),
        st.tuples(st.sampled_from(["bank", "keeps", "no", "look"]), st.integers(0, 9), st.just(Switch.NONE)),
        st.tuples(st.just("hours"), st.integers(1, 30), st.just(Switch.NONE)),
    ),
    max_size=25,
)
Step = tuple[str, int, Switch]
FINAL = {"approved", "declined", "declined_after_handover", "not_charged", "reversed"}


class Story:
    """What a shop lives through, checked after each step."""

    def __init__(self, till: Till) -> None:
        self.till = till
        self.keys: list[str] = []

    async def step(self, step: Step) -> None:
        what, number, loss = step
        till, pads = self.till, self.till.pads
        pads.strike(loss)
        match what:
            case "sell":
                name = TILLS[number % len(TILLS)]
                self.keys.append((await till.sell(number, terminal=name)).key)
            case "forward":
                for _ in range(number):
                    await till.shop.forwarder.look()
                    await till.shop.works_done()
            case "reverse" if self.keys:
                key = self.keys[number % len(self.keys)]
                if (await till.status(key)).state in ("approved", "accepted_offline"):
                    await till.reverse(key)
            case "bank":
                pads.is_bank_down = not pads.is_bank_down
            case "keeps":
                pads.keeps = not pads.keeps
            case "no":
                pads.says_no |= set(list(pads.accepted)[number : number + 1])
            case "look":
                till.shop.clock.pass_time(2 * SETTLE_MS)
                await till.shop.resolver.look()
                await till.shop.works_done()
            case "hours":
                till.shop.clock.pass_time(number * HOUR_MS)
            case _:
                pass

    async def check(self) -> None:
        by_hand = await self._by_hand()
        for name in TILLS:
            assert await self.till.exposure(name) == by_hand[name]
        box = await self.till.exposure()
        assert replace(box, oldest_ms=None) == Exposure(
            accepted_minor=sum(each.accepted_minor for each in by_hand.values()),
            accepted_count=sum(each.accepted_count for each in by_hand.values()),
            reserved_minor=sum(each.reserved_minor for each in by_hand.values()),
        )
        assert (box.oldest_ms is None) == (box.accepted_count == 0)
        period = await self.till.shop.ledger.read(lambda found: read_period(found, Scope.SHOP, "", "EUR"))
        assert period.waiting == box.accepted_minor
        self._within(box)

    def _within(self, box: Exposure) -> None:
        """By the device's own memory, which no table of ours touches."""
        held = list(self.till.pads.accepted.values())
        assert sum(_minor(each) for each in held) <= box.exposed_minor <= LIMITS.box_minor_max
        for name in TILLS:
            of_till = sum(_minor(each) for each in held if each.reference.terminal_id == name)
            assert of_till <= LIMITS.terminal_minor_max
        assert all(_minor(each) <= LIMITS.sale_minor_max for each in held)

    async def _by_hand(self) -> dict[str, Exposure]:
        """From the entries: each intent that allows it is open, accepted or gone."""
        entries = await self.till.shop.rows("SELECT entry FROM entries ORDER BY seq")
        open_cards: dict[str, tuple[str, int]] = {}
        accepted: dict[tuple[bytes, str], tuple[str, int]] = {}
        targets: dict[str, tuple[bytes, str]] = {}
        for (encoded,) in entries:
            entry = decode(encoded)
            if entry.kind not in ("intent", "outcome"):
                continue
            body: Any = cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX)
            if entry.kind == "intent":
                operation = body["operation"]
                if operation.get("offline"):
                    open_cards[operation["id"]] = (terminal_of(entry.actor), operation["amount"])
                if operation["kind"] in ("forward", "withdraw"):
                    targets[operation["id"]] = (body["payment"], operation["target"])
            elif body["state"] != "unknown":
                if body["operation"] in open_cards:
                    card = open_cards.pop(body["operation"])
                    if body["state"] == "accepted_offline":
                        accepted[body["payment"], body["reference"]] = card
                if (body["kind"], body["state"]) in _ENDS:
                    del accepted[targets[body["operation"]]]
        return {
            name: Exposure(
                accepted_minor=sum(minor for of, minor in accepted.values() if of == name),
                accepted_count=sum(of == name for of, _ in accepted.values()),
                reserved_minor=sum(minor for of, minor in open_cards.values() if of == name),
            )
            for name in TILLS
        }

    async def end(self) -> None:
        """The line is back for good: everything is known, and the oracle agrees."""
        till, pads = self.till, self.till.pads
        pads.strike(Switch.NONE)
        pads.is_bank_down = False
        for _ in range(12):
            await till.shop.works_done()
            await till.shop.resolver.look()
            await till.shop.works_done()
            await till.forward()
            till.shop.clock.pass_time(HOUR_MS)
        found = await till.shop.rows("SELECT state, card - card_back FROM payments")
        assert {state for state, _ in found} <= FINAL
        assert pads.charged_minor() == sum(minor for state, minor in found if state == "approved")
        assert pads.accepted == {}
        assert await till.exposure() == Exposure()
        assert len(set(pads.forwarded)) == len(pads.forwarded)
        await rebuilt_equal(till.shop)


_ENDS = {("forward", "confirmed"), ("forward", "rejected"), ("withdraw", "confirmed")}


def _minor(card: Authorise) -> int:
    return card.amount.amount_minor


async def live(steps: list[Step], pads_are: type[FakeForwards]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_till(Path(folder) / "ledger", pads_are=pads_are) as till:
            await till.shop.pair(TILLS[1])
            story = Story(till)
            for step in steps:
                await story.step(step)
                await story.check()
            await story.end()


@pytest.mark.parametrize("pads_are", [FakeForwards, FakeReadFirst])
@given(steps=STEPS)
@example(steps=[("sell", 4_001, Switch.FAIL_AFTER), ("sell", 4_001, Switch.NONE), ("sell", 4_002, Switch.NONE)])
@example(
    steps=[
        ("keeps", 0, Switch.NONE),
        ("sell", 2_000, Switch.NONE),
        ("reverse", 0, Switch.NONE),
        ("look", 0, Switch.NONE),
        ("bank", 0, Switch.NONE),
        ("forward", 2, Switch.FAIL_AFTER),
    ]
)
@example(steps=[("sell", 2_000, Switch.NONE), ("reverse", 0, Switch.NONE), ("look", 0, Switch.NONE)])
@settings(max_examples=25, deadline=None)
def test_what_hangs_on_banks_is_what_the_log_tells_and_ends_in_one_charge_or_none(
    steps: list[Step], pads_are: type[FakeForwards]
) -> None:
    asyncio.run(live(steps, pads_are))

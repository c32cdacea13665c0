"""Owns the promise that the terminal protocol tells the truth about each tender while the provider is out of reach."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from appliance.model.offline import OfflineLimits
from appliance.model.sale import MOVED_BY_PROVIDERS, TenderKind
from appliance.ports.provider import NotSent
from appliance.wire.requests import TenderBody
from tests.architecture.sources import text
from tests.coinbase_twin_here import takes_usdc
from tests.fakes.clock import FakeClock
from tests.fakes.forwards import FakeForwards
from tests.fakes.offers import FakeOffers
from tests.fakes.provider import FakeProvider, Switch
from tests.unit.payment.shop import open_shop

PAGE = text("appliance/docs/formats/terminal-protocol.md").split("## 8. Store and forward")[1].split("## 9.")[0]
TOLD = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE, re.MULTILINE))
ENDS = {"no": "not_charged", "as its acquirer allows": "accepted_offline"}
LIMITS = OfflineLimits(sale_minor_max=1_000, terminal_minor_max=1_000, box_minor_max=1_000, age_hours_max=1)
KINDS = get_args(get_type_hints(TenderBody)["kind"])


def test_the_table_names_every_tender() -> None:
    assert sorted(TOLD) == sorted(KINDS) == sorted(TenderKind)


@pytest.mark.parametrize("page", ["entry-kinds", "problems", "terminal-protocol"])
def test_a_page_that_lists_what_providers_move_lists_all_of_it(page: str) -> None:
    lists = [
        line for line in text(f"appliance/docs/formats/{page}.md").splitlines() if "`card`" in line or '"card"' in line
    ]
    whole = [line for line in lists if all(kind in line for kind in MOVED_BY_PROVIDERS)]
    assert whole == [line for line in lists if TenderKind.USDC in line]
    assert whole


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tender_is_taken_without_the_provider_exactly_when_the_page_says_so(tmp_path: Path, kind: str) -> None:
    clock = FakeClock()
    offers = FakeOffers(clock=clock)
    offers.made = NotSent(reason="no_connection")
    pads = FakeForwards(clock=clock)
    pads.is_bank_down = True
    usdc = FakeProvider(clock=clock)
    usdc.strike(Switch.NOT_SENT, 1_000)
    async with open_shop(tmp_path, clock=clock, offers=offers, pads=pads, limits=LIMITS, more=takes_usdc(usdc)) as shop:
        issued = await shop.vouchers.act(
            shop.request("voucher", {"act": "issue", "amount_minor": 990, "reason": "a test"})
        )
        shop.provider.strike(Switch.NOT_SENT, 1_000)
        tender = {"kind": kind, "amount_minor": 990} | ({"source": issued.code} if kind == "voucher" else {})
        key = shop.new_key()
        await shop.pipeline.pay(
            shop.request("payment", {"currency": "EUR", "amount_minor": 990, "tenders": [tender]}, key)
        )
        await shop.works_done()
        state = (await shop.pipeline.status(shop.request("status", {"of": key}))).state
        assert state == ENDS.get(TOLD[kind], "approved")

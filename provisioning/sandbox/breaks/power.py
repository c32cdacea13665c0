"""The power fails in the middle of sales."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import Counter
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.entry import ENTRY_BYTES_MAX, decode
from appliance.model.errors import TillstoneError
from appliance.runtime.shapes import settle_shapes
from appliance.wire import entries
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.sandbox.breaks.scene import Scene
from provisioning.sandbox.layout import TILLS
from provisioning.sandbox.log_copy import stored_entries
from provisioning.sandbox.tills import open_till

SALES_BEFORE_CUT: Final = 25
SALES_AFTER_CUT: Final = 10
SALE_MS_MAX: Final = 30_000
_PHASE_S_MAX: Final = 60.0


def play(scene: Scene) -> None:
    """Kill the process while both tills sell; every acknowledged sale is there once."""
    sellers = [_Seller(scene, name) for name in TILLS]
    scene.act("Both tills sell for cash, one sale after the other")
    settle_shapes()
    for seller in sellers:
        seller.start()
    _wait_for(sellers, SALES_BEFORE_CUT)
    scene.act("The power fails: the box's process is killed in the middle of that")
    scene.control.kill("appliance")
    scene.tell(
        f"the tills were told of {_count(sellers)} sales so far; they keep asking about the open one, under its own key"
    )
    began = time.monotonic()
    scene.control.start("appliance")
    scene.tell(f"the box is back after {time.monotonic() - began:.1f} s")
    _wait_for(sellers, SALES_BEFORE_CUT + SALES_AFTER_CUT)
    for seller in sellers:
        seller.is_over.set()
    for seller in sellers:
        seller.join()
    scene.act("Every sale that a till was told about is looked up in the log")
    found = _sales_by_key(scene)
    keys = [key for seller in sellers for key in seller.acknowledged]
    lost = [key for key in keys if found[key] == 0]
    doubled = [key for key in keys if found[key] > 1]
    scene.promise(f"of {len(keys)} sales that a till was told about, {len(keys) - len(lost)} are in the log", not lost)
    scene.promise(f"{len(doubled) or 'none'} of them stands there twice", not doubled)
    for trouble in (seller.trouble for seller in sellers if seller.trouble):
        scene.promise(f"a till could not go on: {trouble}", False)
    scene.status()


class _Seller(threading.Thread):
    """One till that sells until it is told that it is over, and never changes a key that was not answered."""

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._home = scene.folder.till(name)
        self.acknowledged: list[str] = []
        self.is_over = threading.Event()
        self.trouble = ""

    def run(self) -> None:
        try:
            asyncio.run(self._sell())
        except TillstoneError as trouble:
            self.trouble = str(trouble)

    async def _sell(self) -> None:
        currency = self._home.profile().currency
        body = PaymentBody(currency=currency, tenders=(TenderBody(kind="cash", amount_minor=100),), amount_minor=100)
        async with open_till(self._home) as client:
            while not self.is_over.is_set():
                key = client.new_key()
                answer = await client.payment(body, key=key, deadline=client.deadline(SALE_MS_MAX))
                if answer.state == "approved":
                    self.acknowledged.append(str(key))


def _wait_for(sellers: list[_Seller], count: int) -> None:
    ends_at = time.monotonic() + _PHASE_S_MAX
    while min(len(seller.acknowledged) for seller in sellers) < count and time.monotonic() < ends_at:
        if any(seller.trouble for seller in sellers):
            return
        time.sleep(0.01)


def _count(sellers: list[_Seller]) -> int:
    return sum(len(seller.acknowledged) for seller in sellers)


def _sales_by_key(scene: Scene) -> Counter[str]:
    """How many sale entries the log holds for each key, read beside the box."""
    found: Counter[str] = Counter()
    for encoded in stored_entries(scene.folder.data):
        entry = decode(encoded)
        if entry.kind == entries.SALE:
            body = cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX)
            found[str(uuid.UUID(bytes=msgspec.convert(body, entries.SaleEntry).asked.key))] += 1
    return found

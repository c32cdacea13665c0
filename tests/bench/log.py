"""The box's own log, filled without doors: how fast entries become durable, and whether that stays so as it grows.

Owns two loops over `Ledger.append`, with the keys of the token and the real projections. A sale here is a real entry of
the payment tables, without a signed request behind it. Leaves the log behind: the appliance starts on it.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop

from appliance.config.load import load
from appliance.crypto import cbor
from appliance.crypto.disclosure import SALT_SIZE
from appliance.device.epochs import epoch_draft
from appliance.ledger.draft import Disclosure, Draft, Purpose
from appliance.ledger.head import LogSigners
from appliance.ledger.ledger import Ledger
from appliance.ledger.opening import Beginning
from appliance.model.ids import new_request_key
from appliance.runtime.clock import SystemClock
from appliance.wire import entries
from appliance.wiring.projections import projections
from appliance.wiring.trust import Trust, open_trust
from tests.bench.part import serve_part
from tests.bench.sales import sale_body

CALLERS = 8
DRAFTS = 500
WINDOW_MAX = 20_000
_PLACEHOLDER = b"\xa5" * 16
_REQUEST = bytes(range(32))
"""Stands for the commitment to a sale's request."""


class LogSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How far to fill; `request_bytes` of sealed request lie beside each sale, as a till's would."""

    settings: str
    plain_entries: int
    sizes: tuple[int, ...]
    request_bytes: int = 0


class LogResult(msgspec.Struct, frozen=True, kw_only=True):
    """Entries per second: plain ones with a receipt for each caller, and sales at each size of the log."""

    plain_rate: float
    plain_cpu_us: float
    sales_rates: dict[int, float]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    ledger: Ledger
    clock: SystemClock
    template: bytes
    request_bytes: int

    async def append_plain(self, entry_count: int) -> None:
        """Every append is followed by its receipt, as if a till waited for it."""
        body = cbor.encode({"note": os.urandom(200)})
        drafts = [Draft(kind="bench", actor="bench", time_ms=self.clock.now_ms(), body=body) for _ in range(DRAFTS)]
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(self._append_in_turn(drafts, entry_count // (CALLERS * DRAFTS)))

    async def _append_in_turn(self, drafts: list[Draft], rounds: int) -> None:
        for _ in range(rounds):
            recorded = await self.ledger.append(drafts, purpose=Purpose.OUTCOME)
            while await self.ledger.receipts([recorded[-1].seq], 10_000) is None:
                pass

    async def append_sales(self, entry_count: int) -> None:
        """Sales into the payment tables until `entry_count` more stand in the log."""
        async with asyncio.TaskGroup() as callers:
            for caller in range(CALLERS):
                share = entry_count // CALLERS + (caller < entry_count % CALLERS)
                callers.create_task(self._sell_in_turn(share))

    async def _sell_in_turn(self, sale_count: int) -> None:
        while sale_count > 0:
            drafts = [self._sale() for _ in range(min(DRAFTS, sale_count))]
            await self.ledger.append(drafts, purpose=Purpose.OUTCOME)
            sale_count -= len(drafts)

    def _sale(self) -> Draft:
        now_ms = self.clock.now_ms()
        key = new_request_key(now_ms, os.urandom(10))
        body = self.template.replace(_PLACEHOLDER, key.octets)
        disclosures: tuple[Disclosure, ...] = ()
        if self.request_bytes:
            request = Disclosure(name="request", salt=os.urandom(SALT_SIZE), value=os.urandom(self.request_bytes))
            body, disclosures = body.replace(_REQUEST, request.commitment), (request,)
        return Draft(kind=entries.SALE, actor="terminal:till-1", time_ms=now_ms, body=body, disclosures=disclosures)


def measure(spec: LogSpec) -> LogResult:
    """Fill the log and say how fast that went."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(spec))


async def _measure(spec: LogSpec) -> LogResult:
    settings = load(Path(spec.settings))
    clock = SystemClock()
    async with open_trust(settings, clock) as trust:
        ledger = await _open(settings.storage.path, trust, clock)
        signing = asyncio.create_task(ledger.sign_heads())
        log = _Log(ledger=ledger, clock=clock, template=_template(), request_bytes=spec.request_bytes)
        try:
            rates: dict[int, float] = {}
            for size in (*spec.sizes, spec.sizes[-1]):
                if size > ledger.head.size:
                    await log.append_sales(size - ledger.head.size)
                if size not in rates:
                    window = min(size, WINDOW_MAX)
                    started = time.perf_counter()
                    await log.append_sales(window)
                    rates[size] = window / (time.perf_counter() - started)
            started, cpu_started = time.perf_counter(), time.process_time()
            before = ledger.head.size
            await log.append_plain(spec.plain_entries)
            count = ledger.head.size - before
            return LogResult(
                plain_rate=count / (time.perf_counter() - started),
                plain_cpu_us=(time.process_time() - cpu_started) / count * 1e6,
                sales_rates=rates,
                size=ledger.head.size,
            )
        finally:
            signing.cancel()
            await asyncio.wait([signing])
            await ledger.close()


async def _open(folder: Path, trust: Trust, clock: SystemClock) -> Ledger:
    now_ms = clock.now_ms()
    epoch = 1 if trust.sealer is None else await trust.sealer.epoch()
    return await Ledger.open(
        folder,
        signers=LogSigners(classical=trust.signers.classical, post_quantum=trust.signers.post_quantum),
        projections=projections(),
        clock=clock,
        store_key=trust.store_key,
        beginning=Beginning(genesis=trust.genesis, created_ms=now_ms, first=epoch_draft(epoch, now_ms)),
    )


def _template() -> bytes:
    """The body of a sale entry whose key is a placeholder of the same size."""
    sale = sale_body(0)
    facts = entries.SaleFacts(
        currency=sale.currency,
        total=sale.total_minor or 0,
        tenders=sale.tenders,
        lines=sale.lines,
        taxes=sale.taxes,
        sold_at_ms=SystemClock().now_ms(),
        change=sale.change_minor,
        reference=sale.reference,
    )
    asked = entries.Asked(key=_PLACEHOLDER, commitments={"payload": bytes(32), "request": _REQUEST})
    return cbor.encode(msgspec.to_builtins(entries.SaleEntry(asked=asked, sale=facts), builtin_types=(bytes,)))


if __name__ == "__main__":
    serve_part(measure, LogSpec)

"""Screening alone: features, rules and the model, of a sale at a terminal that has been busy for an hour."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from appliance.model.ids import TerminalId, request_key
from appliance.model.payment import AuthenticatedRequest, ClearedPayment, Identity, ValidPayment
from appliance.payment.validate import ShopRules, validate
from tests.bench.part import serve_part
from tests.bench.sales import sale_body
from tests.unit.payment.shop import open_shop

_TERMINALS = 50
_HOUR_MS = 3_600_000
_RULES = ShopRules(currency="EUR", cash_rounding_minor=1, amount_minor_max=10**9)


class ScreeningSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How many sales are judged."""

    sales: int


class ScreeningResult(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of one verdict; `processor_p99` is without the waits that other processes cause."""

    p50: float
    p99: float
    processor_p99: float


def measure(spec: ScreeningSpec) -> ScreeningResult:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_judge(Path(folder), spec.sales))


async def _judge(folder: Path, sales: int) -> ScreeningResult:
    async with open_shop(folder) as shop:
        now_ms = shop.clock.now_ms()
        took, worked = [], []
        for number in range(sales):
            valid = _valid(shop.new_key(), number, now_ms + number * _HOUR_MS // sales)
            began, began_work = time.perf_counter_ns(), time.thread_time_ns()
            verdict = shop.screener.sale(valid)
            cleared = ClearedPayment(valid=valid, verdict=verdict)
            shop.screener.count_sale(cleared)
            shop.screener.wrote_sale(cleared)
            worked.append((time.thread_time_ns() - began_work) / 1e6)
            took.append((time.perf_counter_ns() - began) / 1e6)
            if number % 100 == 0:
                await asyncio.sleep(0)
    return ScreeningResult(
        p50=statistics.median(took),
        p99=statistics.quantiles(took, n=100)[-1],
        processor_p99=statistics.quantiles(worked, n=100)[-1],
    )


def _valid(key: str, number: int, now_ms: int) -> ValidPayment:
    identity = Identity(
        key=request_key(key),
        terminal=TerminalId(f"till-{number % _TERMINALS}"),
        payload_hash=bytes(32),
        signed=b"",
        received_ms=now_ms,
    )
    return validate(AuthenticatedRequest(identity=identity, body=sale_body(number)), _RULES)


if __name__ == "__main__":
    serve_part(measure, ScreeningSpec)

"""Figures of payments and of the machine under them: what is said beside each value."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.bench.cards import CardsResult
from tests.bench.figures import Figure, figure
from tests.bench.load import LoadResult
from tests.bench.machine import Machine

CONNECTIONS = 32
BATCH_SALES = 500
CARD_CONNECTIONS = 500
CARD_RATE = 500.0
CHECKED_PAYMENTS = 10_000


def machine_figures(machine: Machine) -> Iterator[Figure]:
    """The limits themselves, so that a reader can compute with them."""
    yield figure("machine_sha256", machine.sha256, "hashes/s", beside="350 bytes, one thread")
    yield figure("machine_es256_verify", machine.es256_verify, "verifications/s", beside="one thread")
    yield figure("machine_ml_dsa_87_sign", machine.ml_dsa_87_sign, "signatures/s", beside="one thread")
    yield figure("machine_sqlite_commit", machine.sqlite_commit, "commits/s", beside="synchronous=FULL, one row each")
    yield figure("machine_sqlite_rows", machine.sqlite_rows, "rows/s", beside="synchronous=FULL, 1,000 rows per commit")
    yield figure("machine_hsm_sign", machine.hsm_sign, "signatures/s", beside="SoftHSM, ECDSA P-256")
    beside = "ES256 verify, one SoftHSM signature and one commit per payment; no network, nothing else"
    yield figure("hsm_signature_per_payment", machine.hsm_per_payment, "payments/s", beside=beside)


def single_figures(single: LoadResult, machine: Machine) -> Iterator[Figure]:
    """Payments one by one."""
    limit = f"ES256 verify on one thread: {machine.es256_verify:,.0f}/s"
    beside = f"one HSM signature per payment, without network: {machine.hsm_per_payment:,.0f}/s"
    yield figure("payments_single", single.rate, "payments/s", limit=limit, beside=beside)
    yield figure("payments_single_p50", single.p50_ms, "ms", beside=f"{CONNECTIONS} connections")
    yield figure("payments_single_p99", single.p99_ms, "ms", beside=f"{CONNECTIONS} connections")
    generator = f"the generator: {single.generator_cpu_us:.0f} us beside it on the same processors"
    yield figure("payments_single_cpu", single.box_cpu_us, "us/payment", limit=_cores(single.rate), beside=generator)


def latency_figures(alone: LoadResult, paced: LoadResult, machine: Machine) -> Iterator[Figure]:
    """How long one payment takes."""
    floor = 1e3 / machine.es256_verify + 1e3 / machine.sqlite_commit + 1e3 / machine.ml_dsa_87_sign
    limit = f"verify, commit and ML-DSA-87 alone: {floor:.2f} ms"
    beside = f"one connection, LAN to receipt; p99 {alone.p99_ms:.1f} ms"
    yield figure("payment_latency_p50", alone.p50_ms, "ms", limit=limit, beside=beside)
    beside = f"{paced.rate:,.0f}/s offered evenly; p50 {paced.p50_ms:.1f} ms, worst {paced.max_ms:.1f} ms"
    yield figure("payment_latency_p99", paced.p99_ms, "ms", limit=limit, beside=beside)


def batch_figures(batch: LoadResult, machine: Machine) -> Iterator[Figure]:
    """Sales in signed batches."""
    limit = f"SQLite alone, 1,000 rows per commit: {machine.sqlite_rows:,.0f} rows/s; a sale writes four rows"
    beside = f"one HSM signature per payment: {machine.hsm_per_payment:,.0f}/s; {BATCH_SALES} sales per batch"
    yield figure("payments_batch", batch.rate, "sales/s", limit=limit, beside=beside)
    generator = f"the generator: {batch.generator_cpu_us:.0f} us"
    yield figure("payments_batch_cpu", batch.box_cpu_us, "us/sale", limit=_cores(batch.rate), beside=generator)


def card_figures(
    many: CardsResult, even: CardsResult, few: CardsResult, before: LoadResult, beside_open: LoadResult
) -> Iterator[Figure]:
    """Cards: as many as the box takes, at an even rate, followed to receipts; cash before and beside open ones."""
    beside = f"{CARD_CONNECTIONS} tills, the next one 50 ms after the 202, then p50 {many.p50_ms:.0f} ms;"
    beside += " two entries each, intent and outcome"
    yield figure("card_payments", many.rate, "payments/s", beside=beside)
    beside = f"request to durable intent (202), {CARD_RATE:.0f}/s from {CARD_CONNECTIONS} tills;"
    beside += f" p50 {even.p50_ms:.1f} ms"
    yield figure("card_added_p99", even.p99_ms, "ms", beside=beside)
    beside = f"8 tills, request to receipt of the outcome, without the provider's 50 ms; p50 {few.p50_ms:.0f} ms"
    yield figure("card_added_p99_at_8", few.p99_ms, "ms", beside=beside)
    beside = f"one cash payment alone; without them {before.p50_ms:.1f} ms, p99 {before.p99_ms:.1f} and"
    beside += f" {beside_open.p99_ms:.1f} ms"
    yield figure("checked_10000_cash_p50", beside_open.p50_ms, "ms", beside=beside)


def _cores(rate: float) -> str:
    cores = os.cpu_count() or 1
    return f"{cores} processors at this rate: {cores / rate * 1e6:.0f} us"

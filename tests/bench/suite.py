"""The order of measuring, and which figure comes from which part.

Owns the sizes of a whole and of a quick run. Parts run one after the other: two at once would measure each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from appliance.api.public.access import READS_PER_S
from appliance.ledger.merkle import TILE_WIDTH
from tests.bench.box import (
    APPLIANCE,
    SLOW_HSM,
    SLOW_PROVIDER,
    BenchBox,
    RunningAppliance,
    appliance,
    bench_box,
    ready_tills,
)
from tests.bench.calendar import CalendarResult, CalendarSpec
from tests.bench.cards import CardsResult, CardsSpec
from tests.bench.figures import Figure, figure
from tests.bench.forwarding import ForwardingResult, ForwardingSpec
from tests.bench.load import LoadResult, LoadSpec
from tests.bench.log import LogResult, LogSpec
from tests.bench.machine import Machine, MachineSpec
from tests.bench.part import run_part
from tests.bench.payment_figures import (
    BATCH_SALES,
    CARD_CONNECTIONS,
    CARD_RATE,
    CHECKED_PAYMENTS,
    CONNECTIONS,
    batch_figures,
    card_figures,
    latency_figures,
    machine_figures,
    single_figures,
)
from tests.bench.proofs import ProofsResult, ProofsSpec
from tests.bench.screening import ScreeningResult, ScreeningSpec
from tests.bench.tile_elsewhere import tiles_elsewhere
from tests.bench.usage import folder_bytes, resident_mb
from tests.bench.verify import VerifyResult, VerifySpec

SLOW_CONNECTIONS = 240
CALENDAR_DIGESTS = 10_000
TILE_ROUNDS = 9
TILE_PAYMENTS_PER_S = 300.0
"""Below what the box takes, so that the times show what a tile costs and not a queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    machine_s: float
    plain_entries: int
    sizes: tuple[int, ...]
    single: int
    alone: int
    paced: int
    batches: int
    slow: int
    beside_tiles: int
    screened: int
    cards: int
    offline: int
    forwarded: int


WHOLE = Plan(
    machine_s=2.0,
    plain_entries=200_000,
    sizes=(1_000, 10_000, 100_000, 1_000_000),
    single=20_000,
    alone=1_000,
    paced=10_000,
    batches=80,
    slow=8_000,
    beside_tiles=3_000,
    screened=50_000,
    cards=10_000,
    offline=100_000,
    forwarded=10_000,
)
QUICK = Plan(
    machine_s=0.3,
    plain_entries=40_000,
    sizes=(1_000, 10_000),
    single=3_000,
    alone=300,
    paced=2_000,
    batches=20,
    slow=1_500,
    beside_tiles=1_500,
    screened=10_000,
    cards=3_000,
    offline=3_000,
    forwarded=1_000,
)


class Suite:
    """One run. `only` limits it to the parts that hold one of these figures."""

    def __init__(self, *, plan: Plan, folder: Path, only: frozenset[str], say: Callable[[str], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._only = only
        self._say = say

    def run(self) -> Iterator[Figure]:
        """Every figure, as it is measured."""
        machine = self._machine()
        yield from machine_figures(machine)
        if self._wants("screening"):
            yield from self._screening()
        if self._wants("forward"):
            yield from self._forwarding(machine)
        if self._wants("calendar"):
            yield from self._calendar(machine)
        logs = ("ledger_append", "append", "verify_log", "proof", "tiles")
        if not self._wants(*logs, "start", "rss", "disk", "payment", "with_100ms", "card", "checked"):
            return
        with bench_box(self._folder) as bench:
            yield from self._log(bench, machine)
            if self._wants("verify_log"):
                yield from self._verify(bench, machine)
            if self._wants("proof", "tiles"):
                yield from self._proofs(bench)
            if self._wants("start", "rss", "disk", "payment"):
                yield from self._payments(bench, machine)
            if self._wants("with_100ms"):
                yield from self._slow_hsm(bench, machine)
            if self._wants("card", "checked"):
                yield from self._cards(bench)

    def _wants(self, *beginnings: str) -> bool:
        return not self._only or any(name.startswith(each) for each in beginnings for name in self._only)

    def _machine(self) -> Machine:
        self._say("this machine's own limits")
        folder = self._folder / "machine"
        folder.mkdir()
        return run_part("machine", MachineSpec(folder=str(folder), seconds=self._plan.machine_s), Machine, os.environ)

    def _screening(self) -> Iterator[Figure]:
        self._say("screening sales")
        result = run_part("screening", ScreeningSpec(sales=self._plan.screened), ScreeningResult, os.environ)
        beside = f"features, rules, model; 50 busy terminals; processor time alone: p99 {result.processor_p99:.3f} ms"
        yield figure("screening_p50", result.p50, "ms", beside=beside)
        yield figure("screening_p99", result.p99, "ms", beside=beside)

    def _forwarding(self, machine: Machine) -> Iterator[Figure]:
        plan = self._plan
        self._say(f"forwarding {plan.forwarded:,} of {plan.offline:,} cards that were accepted offline")
        folder = self._folder / "forwarding"
        spec = ForwardingSpec(folder=str(folder), waiting=plan.offline, forwarded=plan.forwarded)
        result = run_part("forwarding", spec, ForwardingResult, os.environ)
        limit = f"two commits each: {machine.sqlite_commit / 2:,.0f}/s"
        beside = f"one device that answers at once, one at a time: p50 {result.p50_ms:.1f} ms"
        yield figure("forwards", result.rate, "forwards/s", limit=limit, beside=beside)
        grown = f"{result.before_mb:.0f} MB when it began, with {plan.offline:,} waiting"
        yield figure("forwards_memory_growth", result.after_mb - result.before_mb, "MB", beside=grown)

    def _calendar(self, machine: Machine) -> Iterator[Figure]:
        self._say(f"anchoring {CALENDAR_DIGESTS:,} digests in one transaction")
        folder = self._folder / "calendar"
        folder.mkdir()
        spec = CalendarSpec(folder=str(folder), digests=CALENDAR_DIGESTS)
        result = run_part("calendar", spec, CalendarResult, os.environ)
        beside = (
            f"promises {result.promised_s:.2f} s, tree, transaction and a real node {result.anchored_s:.2f} s;"
            f" {result.file_bytes / CALENDAR_DIGESTS:.0f} bytes of disk per digest"
        )
        limit = f"one commit per digest: {CALENDAR_DIGESTS / machine.sqlite_commit:.1f} s"
        yield figure(
            f"calendar_{CALENDAR_DIGESTS}", result.promised_s + result.anchored_s, "s", limit=limit, beside=beside
        )

    def _log(self, bench: BenchBox, machine: Machine) -> Iterator[Figure]:
        self._say(f"appending to a log of {self._plan.sizes[-1]:,} sales")
        spec = LogSpec(
            settings=str(bench.settings),
            # Without a wish for flatness the log stays small.
            sizes=self._plan.sizes
            if self._wants("append", "verify", "proof", "tiles", "start", "payment")
            else self._plan.sizes[:1],
            plain_entries=self._plan.plain_entries,
        )
        result = run_part("log", spec, LogResult, bench.box.environment)
        rows = f"SQLite alone, 1,000 rows per commit: {machine.sqlite_rows:,.0f} rows/s"
        beside = (
            f"{result.plain_cpu_us:.1f} us of processor per entry; one row per commit: {machine.sqlite_commit:,.0f}/s"
        )
        yield figure("ledger_append", result.plain_rate, "entries/s", limit=rows, beside=beside)
        for size, rate in result.sales_rates.items():
            yield figure(f"append_sales_at_{size}", rate, "entries/s", limit=rows, beside="sales with payment tables")

    def _verify(self, bench: BenchBox, machine: Machine) -> Iterator[Figure]:
        self._say("verifying that log from its bytes")
        spec = VerifySpec(data=str(bench.box.data), trust=str(bench.box.trust))
        result = run_part("verify", spec, VerifyResult, os.environ)
        # Each entry is hashed for the chain, for its leaf, and about once more for the nodes above.
        limit = f"three SHA-256 per entry: {machine.sha256 / 3:,.0f}/s"
        yield figure("verify_log", result.rate, "entries/s", limit=limit, beside=f"{result.size:,} entries")
        yield figure("verify_log_memory", result.peak_mb, "MB", beside="peak RSS, whatever the log's size")

    def _proofs(self, bench: BenchBox) -> Iterator[Figure]:
        self._say("proving entries of that log")
        result = run_part("proofs", ProofsSpec(data=str(bench.box.data)), ProofsResult, os.environ)
        beside = f"a random entry under a random size of {result.size:,} entries"
        yield figure("proof_p50", result.proof_p50, "ms", beside=beside)
        yield figure("proof_p99", result.proof_p99, "ms", beside=beside)
        yield figure("tiles", result.tiles, "tiles/s", beside="full tiles by chance, one reader")

    def _payments(self, bench: BenchBox, machine: Machine) -> Iterator[Figure]:
        plan, before = self._plan, folder_bytes(bench.box.data)
        size = plan.sizes[-1]
        self._say(f"starting the appliance on {size:,} entries and more, then paying")
        with appliance(bench, APPLIANCE) as running:
            name = f"start_1e{len(str(size)) - 1}"
            yield figure(name, running.start_s, "s", beside="process start to an answer at the door")
            yield figure("rss_at_start", resident_mb(running.pid), "MB")
            ready_tills(bench, running)
            single = self._load(bench, running, requests=plan.single, connections=CONNECTIONS, warm_up=500)
            alone = self._load(bench, running, requests=plan.alone, connections=1, warm_up=50)
            paced = self._load(bench, running, requests=plan.paced, connections=128, warm_up=500, rate=1_000.0)
            batch = self._load(bench, running, requests=plan.batches, connections=4, batch=BATCH_SALES, warm_up=4)
            resident = resident_mb(running.pid)
            yield from self._tiles(bench, running)
        yield from single_figures(single, machine)
        yield from latency_figures(alone, paced, machine)
        yield from batch_figures(batch, machine)
        payments = single.sales + alone.sales + paced.sales + batch.sales
        yield figure("rss", resident, "MB", beside=f"after {payments:,} payments on {size:,} entries")
        grown = folder_bytes(bench.box.data) - before
        yield figure("disk_per_payment", grown / payments, "bytes", beside="entry, disclosure, tables, indexes, tree")

    def _tiles(self, bench: BenchBox, running: RunningAppliance) -> Iterator[Figure]:
        """The same even load in turns, which see the same minutes: no readers, readers elsewhere, readers here."""
        self._say("paying while strangers read tiles")
        times: dict[str, list[float]] = {"without": [], "elsewhere": [], "here": []}
        with tiles_elsewhere() as elsewhere:
            ports = {"without": 0, "elsewhere": elsewhere, "here": running.public_port}
            for turn in range(TILE_ROUNDS * len(ports)):
                where = tuple(ports)[turn % len(ports)]
                load = self._load(
                    bench,
                    running,
                    requests=self._plan.beside_tiles,
                    connections=32,
                    warm_up=100,
                    rate=TILE_PAYMENTS_PER_S,
                    tiles_port=ports[where],
                )
                times[where].append(load.p99_ms)
        beside = (
            f"{TILE_PAYMENTS_PER_S:.0f} payments/s, {READS_PER_S} tiles/s (all that the door gives), against the same"
            " readers at a process that is not the box; p99 in turns: "
            + ", ".join(f"{where} {_list(each)}" for where, each in times.items())
            + " ms"
        )
        here, elsewhere_ms, without = (median(times[where]) for where in ("here", "elsewhere", "without"))
        yield figure("payment_p99_reading_tiles", (here / elsewhere_ms - 1) * 100, "% more", beside=beside)
        yield figure(
            "payment_p99_beside_readers", (elsewhere_ms / without - 1) * 100, "% more", beside="readers elsewhere"
        )

    def _slow_hsm(self, bench: BenchBox, machine: Machine) -> Iterator[Figure]:
        self._say("the same with an HSM that takes 100 ms")
        others = f"one such signature per payment: 10/s; one SoftHSM signature: {machine.hsm_per_payment:,.0f}/s"
        with appliance(bench, SLOW_HSM) as running:
            ready_tills(bench, running)
            many = self._load(bench, running, requests=self._plan.slow, connections=SLOW_CONNECTIONS)
            alone = self._load(bench, running, requests=max(20, self._plan.alone // 20), connections=1)
        crowd = f"{SLOW_CONNECTIONS} connections: p50 {many.p50_ms:.0f} ms, p99 {many.p99_ms:.0f} ms; {others}"
        yield figure("with_100ms_hsm", many.rate, "payments/s", beside=crowd)
        yield figure("with_100ms_hsm_latency_p50", alone.p50_ms, "ms", limit="100 ms", beside="one payment alone")

    def _cards(self, bench: BenchBox) -> Iterator[Figure]:
        """Cards at a provider that takes 50 ms; then cash, with and without 10,000 payments that are being checked."""
        self._say("card payments beside a provider that takes 50 ms")
        with appliance(bench, SLOW_PROVIDER) as running:
            ready_tills(bench, running)
            many = self._pay_by_card(bench, running, self._plan.cards, connections=CARD_CONNECTIONS)
            even = self._pay_by_card(bench, running, self._plan.cards, connections=CARD_CONNECTIONS, rate=CARD_RATE)
            few = self._pay_by_card(bench, running, self._plan.cards // 10, connections=8, is_followed=True)
            before = self._load(bench, running, requests=self._plan.alone, connections=1, warm_up=50)
            self._say(f"cash beside {CHECKED_PAYMENTS:,} payments that are being checked")
            self._pay_by_card(bench, running, CHECKED_PAYMENTS, connections=64, lost=True)
            beside_open = self._load(bench, running, requests=self._plan.alone, connections=1, warm_up=50)
        yield from card_figures(many, even, few, before, beside_open)

    def _pay_by_card(
        self,
        bench: BenchBox,
        running: RunningAppliance,
        payments: int,
        *,
        connections: int,
        lost: bool = False,
        is_followed: bool = False,
        rate: float = 0.0,
    ) -> CardsResult:
        spec = CardsSpec(
            port=running.port,
            authority=str(bench.door.authority),
            tills=bench.till_folders,
            connections=connections,
            payments=payments,
            lost=lost,
            is_followed=is_followed,
            rate=rate,
        )
        return run_part("cards", spec, CardsResult, os.environ)

    def _load(
        self,
        bench: BenchBox,
        running: RunningAppliance,
        *,
        requests: int,
        connections: int,
        warm_up: int = 0,
        rate: float = 0.0,
        batch: int = 0,
        tiles_port: int = 0,
    ) -> LoadResult:
        spec = LoadSpec(
            port=running.port,
            authority=str(bench.door.authority),
            tills=bench.till_folders,
            pid=running.pid,
            way="paced" if rate else "closed",
            connections=connections,
            requests=requests,
            warm_up=warm_up,
            rate=rate,
            batch=batch,
            tiles_port=tiles_port,
            tiles=self._plan.sizes[-1] // TILE_WIDTH,
        )
        return run_part("load", spec, LoadResult, os.environ)


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)

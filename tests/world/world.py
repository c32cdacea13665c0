"""One world: built from a seed, lived through, brought to rest, judged.

Owns the lives of the box and the end of all trouble. What can happen is `acts.py`, what must hold `invariants.py`.
Everything that chance decides comes from generators named after the seed, so the same seed is the same history.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any, Final

from appliance.model.errors import Bug, OutcomeUnknown, Rejected, Unavailable
from appliance.model.ids import RequestKey, request_key, terminal_id
from appliance.payment.offline_records import exposure
from appliance.payment.operation_records import open_operations
from appliance.payment.records import held_until, reversals_due
from appliance.ports.provider import CardSource
from appliance.runtime.log import Level, Log
from appliance.wire.requests import BatchBody
from provisioning.terminal.home import Profile
from provisioning.terminal.receipts import ReceiptVerifier
from tests.fakes.clock import START_MS
from tests.world.acts import ACTS
from tests.world.books import Books, History, Violation
from tests.world.box import CURRENCY, WorldBox
from tests.world.disk import WorldDisk
from tests.world.hooks import Relay
from tests.world.invariants import judge
from tests.world.invariants_offline import judge_offline
from tests.world.invariants_parts import follow_parts, judge_parts
from tests.world.invariants_till import judge_till
from tests.world.invariants_vouchers import judge_vouchers
from tests.world.link import Lan
from tests.world.loop import Machine, WorldClock, WorldLoop
from tests.world.network import Network
from tests.world.pads import PadTwin, WorldPads
from tests.world.paypal import PayPalTwin, open_paypal
from tests.world.provider import WorldTwin, open_cards
from tests.world.signing import Token
from tests.world.stepping import CommitCut, Life
from tests.world.template import AUDIENCE, TILLS, Keys, Template
from tests.world.till import Pocket, Question, Till

ACTS_MIN, ACTS_MAX = 12, 40
REST_S_MAX: Final = 900.0
STARTS_MAX: Final = 4
"""A box that ends by itself so often, one start after the other, and never opens its door, is given up."""
REST_LOOK_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """How a world went; `lines` is its history."""

    seed: int
    violations: tuple[Violation, ...]
    digest: str
    lines: tuple[str, ...]
    entries: int
    steps: int


class World:
    """All of it, while it lives."""

    def __init__(
        self, seed: int, template: Template, keys: Keys, verifier: ReceiptVerifier, *, keeps_notes: bool = False
    ) -> None:
        self.seed = seed
        self.plan = self._chance("plan")
        timing = self._chance("timing")
        self.loop = WorldLoop(  # type: ignore[abstract]  # it does what a world needs of a loop, and no more
            work_delay=lambda: timing.expovariate(2_000)
        )
        self._timing = timing
        self._keys = keys
        self._true = WorldClock(self.loop, true_start_ms=START_MS)
        self._box_clock = WorldClock(self.loop, true_start_ms=START_MS)
        self.street = Machine(name="customers", is_wire=True)
        history = History(self._true.monotonic_ms, keeps_notes=keeps_notes)
        self._keeps_notes = keeps_notes
        self.twin = WorldTwin(
            self._true,
            lambda what: history.add("provider", what),
            lambda event: self.relay.tell(event),
            lambda seconds, call: self.loop.on(self.street, seconds, call),
        )
        self.paypal = PayPalTwin(
            loop=self.loop,
            clock=self._true,
            randomness=self._chance("customers"),
            note=lambda what: history.add("paypal", what),
        )
        self.pads = PadTwin(self._true, self._chance("pads"), lambda what: history.add("pad", what))
        self.books = Books(history=history, live_minor=self._live_minor)
        self.relay = Relay(
            loop=self.loop,
            clock=self._true,
            box_clock=self._box_clock,
            randomness=self._chance("relay"),
            books=self.books,
            take=self._hear,
        )
        self.network = Network(
            loop=self.loop,
            twin_clock=self._true,
            randomness=self._chance("network"),
            note=lambda what: history.note("network", what),
        )
        self.disk = WorldDisk(template.ledger, self._chance("disk"))
        self.token = Token()
        self.lan = Lan(
            loop=self.loop,
            randomness=self._chance("lan"),
            box=lambda: self._box,
            note=lambda what: history.note("lan", what),
        )
        self.tills = [self._till(name, template, verifier) for name in TILLS]
        self.batches: list[tuple[Till, BatchBody]] = []
        self.asked: list[tuple[Till, Question]] = []
        self.tries: list[list[RequestKey]] = []
        self.held: list[tuple[Till, RequestKey]] = []
        self.in_parts: list[RequestKey] = []
        self._machine = Machine(name="world")
        self._box: WorldBox | None = None
        self._down_s = 0.0
        self._is_power_cut = False
        self._is_resting = False
        self._starts_failed = 0

    def live(self) -> Lived:
        """From the first act to the verdict."""
        self.loop.run_until_complete(self._live())
        return Lived(
            seed=self.seed,
            violations=tuple(self.books.violations),
            digest=self.books.history.digest,
            lines=tuple(self.books.history.lines),
            entries=0 if self._box is None or self._box.ledger is None else self._box.ledger.head.size,
            steps=self.loop.steps,
        )

    async def _live(self) -> None:
        self._start_box()
        for till in self.tills:
            till.start()
        await asyncio.sleep(0.5)
        weights = [act.weight for act in ACTS]
        for _ in range(self.plan.randint(ACTS_MIN, ACTS_MAX)):
            (act,) = self.plan.choices(ACTS, weights)
            self.books.history.note("world", act.name)
            act.do(self)
            # Mostly one thing right after the other, sometimes a while of nothing.
            await asyncio.sleep(self.plan.choice((0.0, 0.01, 0.1, 1.0, self.plan.expovariate(0.1))))
        await self._rest()
        if self._box is not None and self._box.is_open:
            try:
                await self._judge(self._box)
            except Bug as broken:  # the box's own tables contradict each other, and it refuses to read them
                self.books.violate("lost", f"the box's books are broken: {broken.detail}")

    async def _judge(self, box: WorldBox) -> None:
        held = await judge(self.books, box, self.charges(), self.twin.given_up(), rebuilds=self.seed % 8 == 0)
        sales, sale_of = follow_parts(held)
        periods = await judge_till(self.books, held, box, sales, sale_of)
        await judge_parts(self.books, held, box, sales)
        await judge_vouchers(self.books, held, periods, box)
        judge_offline(self.books, held, periods, self.pads)

    def charges(self) -> list[dict[str, Any]]:
        """The money oracle: what every provider took."""
        return self.twin.charges() + self.paypal.charges() + self.pads.charges()

    # --- what acts use ---

    def any_till(self) -> Till:
        return self.plan.choice(self.tills)

    def some_payment(self, recent: int) -> RequestKey | None:
        """One of the newest payments that were asked for."""
        known = list(self.books.sales)[-recent:]
        return request_key(self.plan.choice(known)) if known else None

    def crash_after_steps(self, steps: int, *, is_power_cut: bool, down_s: float | None = None) -> None:
        if self._box is not None:
            self._plan_crash(is_power_cut=is_power_cut, down_s=down_s)
            self._box.life.machine.fuel = steps

    def crash_in_commit(self, cut: CommitCut, *, is_power_cut: bool) -> None:
        if self._box is not None and not self._box.life.is_stuck:
            self._plan_crash(is_power_cut=is_power_cut, down_s=None)
            self._box.life.cut = cut

    def stop_box(self) -> None:
        """As `systemctl stop`; it is started again."""
        if self._box is not None and self._box.supervisor is not None and self._box.is_open:
            self.books.history.add("box", "is told to stop")
            self._box.supervisor.stop("world")

    def close_day(self) -> None:
        """As an operator does at the box itself."""
        if self._box is not None and self._box.is_open:
            self.books.history.add("operator", "closes the day")
            self.loop.spawn(self._box.life.machine, self._close_day(self._box), "close the day")

    async def _close_day(self, box: WorldBox) -> None:
        assert box.close_day is not None
        try:
            answer = await box.close_day()
        except (Unavailable, OutcomeUnknown) as refusal:
            self.books.history.add("operator", f"hears: {refusal.code}")
        except Rejected as refusal:
            if refusal.code != "day_empty":
                self.books.violate("lost", f"a day was not closed: {refusal}")
        else:
            self.books.history.add("operator", f"hears: {answer.day.day} is closed ({answer.seq})")
            if answer.seq is not None and not answer.pending:
                self.books.cash.days[answer.seq] = answer.day

    def break_disk(self, line: str) -> None:
        if self._box is not None:
            self.books.history.add("disk", f"breaks: {line}")
            self.disk.break_with(line)

    def mend_disk(self) -> None:
        self.books.history.add("disk", "is mended")
        self.disk.mend()

    def step_box_clock(self, step_ms: int) -> None:
        self._box_clock.offset_ms += step_ms
        self.books.history.add("box", f"has a clock that steps by {step_ms} ms")

    def freeze(self, seconds: float) -> None:
        self.books.history.add("world", f"stands still for {round(seconds)} s")
        self.loop.jump(seconds)

    def _hear(self, body: bytes, headers: dict[str, str]) -> str:
        box = self._box
        is_open = box is not None and box.is_open and box.life.machine.is_alive
        return box.hear(body, headers) if box is not None and is_open else "down"

    # --- the lives of the box ---

    def _start_box(self) -> None:
        machine = Machine(name="box", burnt_out=lambda: self._crash(self.disk.position))
        life = Life(machine=machine, loop=self.loop, disk=self.disk, randomness=self._timing, on_cut=self._crash)
        self._is_power_cut = False
        self._down_s = self.plan.uniform(0.2, 8.0)
        log = Log(
            sink=lambda line: self.books.history.note("box", line.rstrip()),
            clock=self._box_clock,
            level=Level.INFO if self._keeps_notes else Level.ERROR,
            layout=lambda fields: " ".join(f"{name}={value}" for name, value in fields.items() if name != "time"),
        )
        self._box = WorldBox(
            life=life,
            clock=self._box_clock,
            keys=self._keys,
            token=self.token,
            cards=open_cards(self.network, self.twin, self._box_clock, self._timing),
            paypal=open_paypal(self.network, self.paypal, self._box_clock, self._timing),
            pads=WorldPads(self.network, self.pads),
            readers={terminal_id(till): CardSource(reader) for till, reader in self.twin.readers.items()},
            log=log,
        )
        self.books.history.add("box", "starts")
        self.loop.spawn(machine, self._run(self._box), "box")

    async def _run(self, box: WorldBox) -> None:
        try:
            await box.run()
        except BaseException as ended:  # noqa: BLE001 - the process ends, whatever it was that ended it
            self.books.history.add("box", f"ends by itself: {_why(ended)}")
            if not _is_disk(ended):
                self.books.violate("lost", f"the box ended by itself: {_why(ended)}")
            self._starts_failed = 0 if box.was_open else self._starts_failed + 1
        else:
            self.books.history.add("box", "has stopped")
        if box.life.machine.is_alive:
            self._crash(self.disk.position)

    def _plan_crash(self, *, is_power_cut: bool, down_s: float | None) -> None:
        self._is_power_cut = is_power_cut
        if down_s is not None:
            self._down_s = down_s

    def _crash(self, at: int) -> None:
        """The box is dead from here on; what its disk held at the position `at` is found at the next start."""
        assert self._box is not None
        self._box.life.machine.is_alive = False
        self._box.is_open = False
        how = "loses its power" if self._is_power_cut else "is dead"
        left = self.disk.crash(at, is_power_cut=self._is_power_cut)
        self.books.history.add("box", f"{how} after {left}, for {round(self._down_s)} s")
        down_s, self._box = self._down_s, None
        # On the world's own machine: this one is dead.
        self.loop.on(self._machine, min(down_s, 2.0) if self._is_resting else down_s, self._start_again)
        if down_s > 3_600 and not self._is_resting:
            self.loop.jump(down_s - 60)

    def _start_again(self) -> None:
        if self._starts_failed >= STARTS_MAX:
            self.books.violate("lost", f"the box ended by itself at {STARTS_MAX} starts, one after the other")
        elif self._box is None:
            self._start_box()

    # --- rest ---

    async def _rest(self) -> None:
        """All trouble ends; then everything that was promised has a quarter of an hour to come true."""
        self.books.history.add("world", "trouble ends")
        self._is_resting = True
        weather = self.network.weather
        # A listing's lag stays: that is no trouble, but how a provider is.
        weather.trouble, weather.is_outage, self.lan.trouble = 0.0, False, 0.0
        self.token.is_away, self.token.delay_ms = False, 5
        self._box_clock.offset_ms = 0
        self.disk.mend()
        self.pads.set_bank(is_down=False)
        if self._box is not None:
            self._box.life.cut, self._box.life.machine.fuel = None, None
        for till in self.tills:
            till.clock.offset_ms = 0
        until = self.loop.time() + REST_S_MAX
        while self.loop.time() < until and self._starts_failed < STARTS_MAX:
            await asyncio.sleep(REST_LOOK_S)
            if await self._is_at_rest():
                return
        open_keys = [self.books.name(key) for till in self.tills for key in till.open]
        self.books.violate("lost", f"nothing ends: questions {open_keys}, box {self._box is not None}")

    async def _is_at_rest(self) -> bool:
        box = self._box
        if box is None or not box.is_open or box.ledger is None or box.supervisor is None:
            return False
        if any(till.open for till in self.tills) or box.supervisor.works_open or box.life.is_stuck:
            return False
        return await box.ledger.read(
            lambda connection: (
                not (
                    open_operations(connection, 1)
                    or reversals_due(connection, 1)
                    or held_until(connection, self._box_clock.now_ms(), 1)
                    or exposure(connection).exposed_minor
                )
            )
        )

    # --- building ---

    def _till(self, name: str, template: Template, verifier: ReceiptVerifier) -> Till:
        return Till(
            name=name,
            profile=Profile(url="https://box", terminal=name, audience=AUDIENCE, currency=CURRENCY),
            key=template.till_key(name),
            pocket=Pocket(folder=template.folder),
            clock=WorldClock(self.loop, true_start_ms=START_MS),
            lan=self.lan,
            loop=self.loop,
            books=self.books,
            verifier=verifier,
            randomness=self._chance(name),
            on_show=self.paypal.show,
        )

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")

    def _live_minor(self, payment: str) -> int:
        return sum(
            charge["captured"] - charge["refunded"] if charge["captured"] else charge["amount"]
            for charge in self.charges()
            if charge["metadata"].get("tillstone_payment") == payment
        )


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


def _is_disk(error: BaseException) -> bool:
    """Whether it is what a failing disk does to the process."""
    codes = {getattr(leaf, "code", "") for leaf in _leaves(error)}
    return bool(codes) and codes <= {"commit_failed", "ledger_failed", "disk_full"}


def _why(error: BaseException) -> str:
    return "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in _leaves(error))

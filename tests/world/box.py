"""The box of a world: the real ledger, pipeline, resolver and guards, on a disk and a network that fail.

Owns one life of the process, from its start to its end. Must never decide when it ends: that is `world.py`.

What is left out of the real process: sockets and TLS (`link.py` hands over the same bytes), HSM and TPM (keys in
memory, slow on purpose), followers that only read. The writer's thread is a step of the world's loop (`stepping.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from aiohttp import web

from appliance.adapters.paypal import PayPalProvider
from appliance.adapters.stripe_reader import is_reader
from appliance.adapters.stripe_webhook import StripeWebhooks
from appliance.api.encode import answer as encode_answer
from appliance.api.failures import Failures
from appliance.config.screening import Screening
from appliance.config.secret import Secret
from appliance.device.admission import BoxAdmission, LogWatermark, Quarantine
from appliance.device.boot import record_boot
from appliance.device.upkeep import Upkeep
from appliance.identity.authenticate import Authenticate
from appliance.identity.signed import Encoding, SignedRequest, decode_signed
from appliance.identity.terminals import Terminals
from appliance.ledger.head import LogSigners
from appliance.ledger.ledger import Ledger
from appliance.ledger.room import Room
from appliance.model.errors import Rejected, TillstoneError, Unavailable
from appliance.model.ids import TerminalId, terminal_id
from appliance.model.limits import BATCH_BYTES_MAX, DAY_MS
from appliance.model.operation import FIRST_PROVIDER
from appliance.model.sale import TenderKind
from appliance.payment.batch import Batch
from appliance.payment.follow_up import FollowUp
from appliance.payment.forward import Forwarder
from appliance.payment.operate import Operations
from appliance.payment.providers import Providers, SetUp
from appliance.payment.readers import Readers
from appliance.payment.repeats import is_used
from appliance.payment.resolve import Resolver
from appliance.payment.screening.judge import Screener
from appliance.payment.screening.trees import load_model
from appliance.payment.validate import ShopRules
from appliance.payment.vault.safe import Safe
from appliance.payment.vault.vault import Vault
from appliance.payment.webhooks import Webhooks
from appliance.ports.provider import CardSource, Forwards, Holds
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.stages import Stages
from appliance.runtime.supervise import Restart, Supervisor, supervised
from appliance.runtime.tracing import SilentTracer
from appliance.wire.answers import Answer, DayAnswer, PaymentAnswer
from appliance.wiring.payments import make_give_back, payment_pipeline
from appliance.wiring.projections import projections
from tests.fakes.cipher import FakeCipher
from tests.world.counter import Counter
from tests.world.hooks import SECRET
from tests.world.loop import WorldClock
from tests.world.pads import LIMITS, PADS, PIN_PAD
from tests.world.paypal import PAYPAL
from tests.world.signing import SlowSigner, Token
from tests.world.stepping import LIFE, Life, WorldLedger
from tests.world.template import AUDIENCE, STORE_KEY, Keys

CURRENCY: Final = "EUR"
CASH_ROUNDING_MINOR: Final = 5
SETTLE_MS: Final = 30_000  # the least that the settings allow; the provider of a world is late by less
CAPTURE_WINDOW_MS: Final = 2 * DAY_MS
UNSIGNED_AGE_MAX_MS: Final = 15 * 60_000
_PADS: Final = {terminal_id(till): CardSource(pad) for till, pad in PADS.items()}
MODEL: Final = load_model(None)


@dataclass(slots=True, kw_only=True, eq=False)
class WorldBox:
    """One life of the process; `run` ends when it is told to stop, or when the process would end itself."""

    life: Life
    clock: WorldClock
    keys: Keys
    token: Token
    cards: Holds
    paypal: PayPalProvider
    pads: Forwards
    readers: Mapping[TerminalId, CardSource]
    log: Log
    supervisor: Supervisor | None = None
    ledger: Ledger | None = None
    is_open: bool = False
    was_open: bool = False
    stop_waiting: Callable[[], None] = lambda: None
    webhooks: Webhooks | None = None
    close_day: Callable[[], Awaitable[DayAnswer]] | None = None
    _verbs: dict[str, Callable[[SignedRequest], Awaitable[Answer]]] = field(default_factory=dict)
    _failures: Failures | None = None

    async def run(self) -> None:
        LIFE.set(self.life)
        folder = self.life.disk.folder
        self.ledger = ledger = await WorldLedger.open(
            folder,
            signers=LogSigners(
                classical=SlowSigner(self.keys.classical, self.token, self.clock),
                post_quantum=SlowSigner(self.keys.post_quantum, self.token, self.clock),
            ),
            projections=projections(),
            clock=self.clock,
            store_key=STORE_KEY,
            room=Room(folder=folder, clock=self.clock, free_bytes_min=0),
        )
        async with supervised(log=self.log, clock=self.clock) as supervisor:
            self.supervisor = supervisor
            supervisor.start("head signing", ledger.sign_heads)
            supervisor.start("commit watch", ledger.watch)
            await record_boot(
                ledger=ledger, clock=self.clock, version="world", self_tests=0, epoch=0, post_quantum="memory"
            )
            await self._build(ledger, supervisor, folder)
            self.is_open = self.was_open = True
            await supervisor.stopped()
            self.is_open = False
            self.stop_waiting()
        await ledger.close()

    def _vault(self, ledger: Ledger, folder: Path) -> Vault:
        """No till of this world hands a token in, so its file is never opened."""
        safe = Safe(folder=folder, cipher=FakeCipher(STORE_KEY), is_ready=lambda: not self.token.is_away)
        return Vault(safe=safe, ledger=ledger, clock=self.clock, log=self.log, is_in_clear=lambda _: False)

    async def _build(self, ledger: Ledger, supervisor: Supervisor, folder: Path) -> None:
        clock, quarantine, stages = self.clock, Quarantine(), Stages(tracer=SilentTracer(), metrics=metrics())
        terminals = Terminals(ledger=ledger, clock=clock)
        await terminals.load()
        authenticate = Authenticate(
            terminals=terminals,
            watermark=LogWatermark(ledger=ledger, quarantine=quarantine),
            clock=clock,
            audience=AUDIENCE,
            clock_skew_max_ms=5 * 60_000,
            is_used=partial(is_used, ledger),
        )
        admission = _admission(ledger, quarantine)
        rules = ShopRules(currency=CURRENCY, cash_rounding_minor=CASH_ROUNDING_MINOR, amount_minor_max=10**9)
        operations = self._operations(ledger, supervisor, stages, folder)
        self.stop_waiting = operations.stop_waiting
        screener = await _screener(ledger, clock)
        pipeline = payment_pipeline(
            authenticate=authenticate,
            rules=rules,
            admission=admission,
            operations=operations,
            screener=screener,
            ledger=ledger,
            clock=clock,
            stages=stages,
        )
        batch = Batch(
            authenticate=authenticate, rules=rules, admission=admission, ledger=ledger, clock=clock, screener=screener
        )
        counter = Counter.build(
            authenticate=authenticate,
            admission=admission,
            quarantine=quarantine,
            ledger=ledger,
            clock=clock,
            log=self.log,
            currency=CURRENCY,
        )
        self.close_day = counter.days.close
        # As the process does: the day that ended while the box was off, before anything new is recorded.
        await counter.days.close_due()
        supervisor.start("shop days", counter.days.run, restart=Restart.ON_CRASH)
        self._verbs = {
            "payment": pipeline.pay,
            "status": pipeline.status,
            "reversal": pipeline.reverse,
            "abort": pipeline.abort,
            "refund": pipeline.refund,
            "capture": pipeline.capture,
            "batch": batch.take,
            "drawer": counter.drawers.act,
            "report": counter.reports.report,
            "voucher": counter.vouchers.act,
            "head": authenticate.show_head,
        }
        self._failures = Failures(clock=clock, log=self.log, metrics=metrics(), on_corrupt=quarantine.set)
        self._start_services(ledger, supervisor, operations, folder)
        forwarder = Forwarder(
            ledger=ledger,
            follow_up=FollowUp(ledger=ledger, operations=operations, clock=clock),
            clock=clock,
            log=self.log,
            jitter=self.life.randomness,
            quarantine=lambda: quarantine.reason,
        )
        supervisor.start("forwarding", forwarder.run, restart=Restart.ON_CRASH)

    def _operations(self, ledger: Ledger, supervisor: Supervisor, stages: Stages, folder: Path) -> Operations:
        return Operations(
            ledger=ledger,
            providers=Providers(
                {FIRST_PROVIDER: _cards(self.cards), PAYPAL: _paypal(self.paypal), PIN_PAD: _pads(self.pads)}
            ),
            supervisor=supervisor,
            clock=self.clock,
            log=self.log,
            stages=stages,
            log_origin=AUDIENCE,
            source_default="pm_card_visa",
            vault=self._vault(ledger, folder),
            readers=Readers(bound=self.readers, is_reader=is_reader, is_default=False, pads=_PADS),
            capture_window_ms=CAPTURE_WINDOW_MS,
            offline_limits=LIMITS,
        )

    def _start_services(self, ledger: Ledger, supervisor: Supervisor, operations: Operations, folder: Path) -> None:
        clock = self.clock
        resolver = Resolver(
            ledger=ledger,
            operations=operations,
            give_back=make_give_back(ledger, operations, clock),
            clock=clock,
            log=self.log,
            settle_ms=SETTLE_MS,
            jitter=self.life.randomness,
        )
        self.webhooks = Webhooks(
            reader=StripeWebhooks(secret=Secret(SECRET.encode()), is_live=False, clock=clock),
            log_origin=AUDIENCE,
            provider=FIRST_PROVIDER,
            hurry=lambda reference: operations.providers.hurry(FIRST_PROVIDER, reference),
            find=lambda operation, known: operations.find(operation, since_ms=operation.prepared_ms, known=known),
            resolver=resolver,
            ledger=ledger,
            clock=clock,
            log=self.log,
            count=lambda _: None,
        )
        upkeep = Upkeep(
            ledger=ledger, clock=clock, metrics=metrics(), log=self.log, folder=folder, probes={}, terminal_count=int
        )
        supervisor.start("clock", upkeep.watch_clock, restart=Restart.ON_CRASH)
        supervisor.start("resolver", resolver.run, restart=Restart.ON_CRASH)
        supervisor.start("webhooks", self.webhooks.run, restart=Restart.ON_CRASH)

    def hear(self, body: bytes, headers: Mapping[str, str]) -> str:
        """What the relay's door answers to a webhook: nothing, or why it was refused."""
        assert self.webhooks is not None
        try:
            self.webhooks.take(body, headers)
        except (Rejected, Unavailable) as refusal:
            return refusal.code
        return ""

    async def serve(self, verb: str, body: bytes) -> tuple[int, bytes]:
        """What the door answers to the bytes of a request: status and CBOR."""
        assert self._failures is not None
        try:
            signed = decode_signed(body, Encoding.COSE, size_max=BATCH_BYTES_MAX)
            result = await self._verbs[verb](signed)
        except Exception as error:  # noqa: BLE001 - the end of a request, as in `api/middleware.py`
            if not isinstance(error, TillstoneError):
                self.life.loop.crashes.append(f"{verb}: {type(error).__name__}: {error}")
            refused = self._failures.answer(error, verb=verb, encoding=Encoding.COSE)
            return _sent(refused)
        is_asked = isinstance(result, PaymentAnswer) and result.state == "being_checked" and verb != "status"
        return _sent(encode_answer(result, Encoding.COSE, status=202 if is_asked else 200))


def _sent(response: web.Response) -> tuple[int, bytes]:
    assert isinstance(response.body, bytes)
    return response.status, response.body


def _admission(ledger: Ledger, quarantine: Quarantine) -> BoxAdmission:
    return BoxAdmission(
        conditions=quarantine.conditions,
        signing_lag=lambda: ledger.signing_lag,
        unsigned_age_max_ms=UNSIGNED_AGE_MAX_MS,
        unsigned_entries_max=5_000,
    )


@cache
def metrics() -> Metrics:
    """One set for all lives: nobody reads it."""
    return Metrics()


async def _screener(ledger: Ledger, clock: WorldClock) -> Screener:
    screener = Screener(
        settings=Screening(), zone=ZoneInfo("UTC"), ledger=ledger, clock=clock, count=lambda _verdict, _rule: None
    )
    await screener.load(MODEL)
    return screener


def _pads(pads: Forwards) -> SetUp:
    return SetUp(tender=TenderKind.PIN_PAD, provider=pads, forwards=pads, admit=lambda: None)


def _paypal(provider: PayPalProvider) -> SetUp:
    return SetUp(tender=TenderKind.PAYPAL, provider=provider, offers=provider, admit=lambda: None)


def _cards(provider: Holds) -> SetUp:
    return SetUp(tender=TenderKind.CARD, provider=provider, holds=provider, admit=lambda: None)

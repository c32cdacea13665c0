"""A box in one process: the real ledger, pipeline and resolver, a provider in memory, a clock that a test moves.

Holds no test.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from sqlite3 import Connection, connect
from typing import Any, Final, TypedDict
from zoneinfo import ZoneInfo

from appliance.adapters.paypal import PayPalProvider
from appliance.config.screening import Screening
from appliance.crypto.signing_key import TerminalKey
from appliance.device.admission import BoxAdmission, Quarantine
from appliance.identity.authenticate import Authenticate
from appliance.identity.pairing import Pairing
from appliance.identity.refusals import Refusals
from appliance.identity.signed import Encoding, SignedRequest, decode_signed
from appliance.identity.terminals import Terminals
from appliance.ledger.ledger import Ledger
from appliance.ledger.projection import tables_digest
from appliance.ledger.rebuild import rebuild
from appliance.model.ids import ProviderName, ProviderReference, TerminalId, new_request_key
from appliance.model.limits import BATCH_BYTES_MAX, DAY_MS
from appliance.model.offline import OfflineLimits
from appliance.model.shop_day import ShopCalendar
from appliance.payment.batch import Batch
from appliance.payment.follow_up import FollowUp
from appliance.payment.forward import Forwarder
from appliance.payment.operate import Operations
from appliance.payment.pipeline import PaymentPipeline
from appliance.payment.providers import Providers, SetUp
from appliance.payment.repeats import is_used
from appliance.payment.resolve import Resolver
from appliance.payment.screening.judge import Screener
from appliance.payment.screening.trees import load_model
from appliance.payment.shown import CUSTOMER_ASKED
from appliance.payment.validate import ShopRules
from appliance.payment.vault.safe import Safe
from appliance.payment.vault.vault import Vault
from appliance.ports.provider import Holds
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics
from appliance.runtime.stages import Stages
from appliance.runtime.supervise import Supervisor, supervised
from appliance.runtime.tracing import open_tracer
from appliance.till.days import ShopDays
from appliance.till.drawers import Drawers
from appliance.till.reports import Reports
from appliance.till.tokens import Tokens
from appliance.till.vouchers import Vouchers
from appliance.wire.requests import Claims, HeadBody
from appliance.wiring.payments import make_give_back, payment_pipeline
from appliance.wiring.projections import projections
from provisioning.terminal.signing import sign_cose
from tests.fakes.cipher import FakeCipher
from tests.fakes.clock import FakeClock
from tests.fakes.forwards import FakeForwards
from tests.fakes.offers import FakeOffers
from tests.fakes.provider import FakeProvider
from tests.fakes.sealer import unattested
from tests.unit.ledger.shop import genesis, open_ledger, running
from tests.unit.payment.counter import providers_of, readers_of_tills
from tests.unit.payment.vault import open_vault, tokens_of
from tests.until import until

CERTIFICATE: Final = bytes(range(32))
PROJECTIONS: Final = projections()
CALENDAR: Final = ShopCalendar(zone=ZoneInfo("Europe/Berlin"), cut_off="04:00")
SETTLE_MS: Final = 60_000
CAPTURE_WINDOW_MS: Final = 2 * DAY_MS
ROUNDS_MAX: Final = 24
MODEL: Final = load_model(None)
NEVER: Final = OfflineLimits()


class BlindWatermark:
    """Compares nothing."""

    async def check(self, size: int, root: bytes) -> None:
        """Say yes."""

    async def show(self, head: HeadBody) -> int:
        """Nobody is asked to."""
        raise AssertionError(head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """The parts of an open box."""

    ledger: Ledger
    clock: FakeClock
    provider: FakeProvider
    terminals: Terminals
    pairing: Pairing
    refusals: Refusals
    authenticate: Authenticate
    pipeline: PaymentPipeline
    operations: Operations
    batch: Batch
    screener: Screener
    resolver: Resolver
    forwarder: Forwarder
    quarantine: Quarantine
    drawers: Drawers
    vouchers: Vouchers
    tokens: Tokens
    vault: Vault
    safe: Safe
    hsm: FakeCipher
    reports: Reports
    days: ShopDays
    audience: str
    works_open: Callable[[], int]
    keys: dict[str, TerminalKey] = field(default_factory=dict)

    def new_key(self) -> str:
        return str(new_request_key(self.clock.now_ms(), random.randbytes(10)))

    async def pair(self, name: str) -> None:
        self.keys[name] = TerminalKey.generate()
        await self.terminals.pair(TerminalId(name), self.keys[name].public_key)

    def request(
        self, verb: str, body: dict[str, Any], key: str | None = None, *, terminal: str = "till-1"
    ) -> SignedRequest:
        """As the door hands it over."""
        claims = Claims(
            v=1,
            verb=verb,  # type: ignore[arg-type] # a test may say anything
            audience=self.audience,
            terminal=terminal,
            key=self.new_key() if key is None else key,
            signed_at_ms=self.clock.now_ms(),
            body=body,
        )
        return decode_signed(sign_cose(self.keys[terminal], claims), Encoding.COSE, size_max=BATCH_BYTES_MAX)

    async def works_done(self) -> None:
        """Return when no provider is being asked any more."""
        await until("nobody who asks a provider", lambda: not self.works_open())

    async def customer_asked(self, key: str) -> ProviderReference:
        """The provider's name for what the customer of the payment `key` is asked, once its entry is recorded."""
        asked = f"SELECT reference FROM operations WHERE id = '{key}/0' AND code = '{CUSTOMER_ASKED}'"
        size = self.ledger.head.size
        while not (rows := await self.rows(asked)):
            size = await self.ledger.wait_beyond(size)
        await self.ledger.wait_beyond((await self.rows("SELECT max(seq) FROM entries"))[0][0])
        return ProviderReference(rows[0][0])

    async def settle(self) -> None:
        """Let the resolver look until nothing is open or due; virtual time passes between."""
        for _ in range(ROUNDS_MAX):
            await self.works_done()
            await self.resolver.look()
            await self.works_done()
            if not await self.rows("SELECT 1 FROM payments WHERE state = 'being_checked'"):
                return
            self.clock.pass_time(2 * SETTLE_MS)
        raise AssertionError("a payment is still being checked")

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return await self.ledger.read(lambda connection: connection.execute(statement).fetchall())


@asynccontextmanager
async def open_shop(
    folder: Path,
    *,
    clock: FakeClock | None = None,
    cash_step_minor: int = 1,
    asked: Holds | None = None,
    screening: Screening | None = None,
    offers: FakeOffers | PayPalProvider | None = None,
    pads: FakeForwards | None = None,
    limits: OfflineLimits = NEVER,
    more: Mapping[ProviderName, SetUp] = {},
) -> AsyncIterator[Shop]:
    """A box with one paired terminal, `till-1`; `asked` stands in the place of the fake, `offers` takes PayPal,
    `pads` takes cards at PIN pads, offline within `limits`."""
    log = _quiet(clock := clock or FakeClock())
    provider = FakeProvider(clock=clock)
    opened = await open_ledger(folder, clock=clock, projections=PROJECTIONS)
    async with running(opened) as ledger, supervised(log=log, clock=clock) as supervisor:
        audience = genesis().read().origin
        stages = Stages(tracer=open_tracer(None, service="test"), metrics=Metrics())
        terminals = Terminals(ledger=ledger, clock=clock)
        authenticate = _authenticate(terminals, clock, audience, ledger)
        set_up = providers_of(provider if asked is None else asked, provider.admit, offers, pads)
        providers = Providers({**set_up, **more})
        kept = open_vault(folder, ledger, clock, log)
        operations = _operations(ledger, providers, supervisor, clock, stages, limits, kept["vault"])
        rules = ShopRules(currency="EUR", cash_rounding_minor=cash_step_minor, amount_minor_max=10**9)
        quarantine = Quarantine()
        admission = _admission(quarantine, ledger)
        screener = await _screener(ledger, clock, screening)
        shop = Shop(
            ledger=ledger,
            clock=clock,
            provider=provider,
            terminals=terminals,
            pairing=_pairing(terminals, authenticate, clock, audience),
            refusals=Refusals(ledger=ledger, clock=clock),
            operations=operations,
            authenticate=authenticate,
            pipeline=payment_pipeline(
                authenticate=authenticate,
                rules=rules,
                admission=admission,
                operations=operations,
                screener=screener,
                ledger=ledger,
                clock=clock,
                stages=stages,
            ),
            batch=_batch(authenticate, rules, admission, ledger, clock, screener),
            screener=screener,
            resolver=_resolver(ledger, operations, clock, log),
            forwarder=_forwarder(ledger, operations, clock, quarantine),
            quarantine=quarantine,
            audience=audience,
            **_till(authenticate, admission, ledger, clock, quarantine),
            tokens=tokens_of(authenticate, admission, ledger, clock, kept["vault"]),
            **kept,
            works_open=lambda: supervisor.works_open,
        )
        await terminals.load()
        await shop.pair("till-1")
        yield shop
        supervisor.stop("the test is over")
        await kept["safe"].close()


def _batch(
    authenticate: Authenticate,
    rules: ShopRules,
    admission: BoxAdmission,
    ledger: Ledger,
    clock: FakeClock,
    screener: Screener,
) -> Batch:
    return Batch(
        authenticate=authenticate, rules=rules, admission=admission, ledger=ledger, clock=clock, screener=screener
    )


def _resolver(ledger: Ledger, operations: Operations, clock: FakeClock, log: Log) -> Resolver:
    return Resolver(
        ledger=ledger,
        operations=operations,
        give_back=make_give_back(ledger, operations, clock),
        clock=clock,
        log=log,
        settle_ms=SETTLE_MS,
        jitter=random.Random(1),
    )


def _forwarder(ledger: Ledger, operations: Operations, clock: FakeClock, quarantine: Quarantine) -> Forwarder:
    return Forwarder(
        ledger=ledger,
        follow_up=FollowUp(ledger=ledger, operations=operations, clock=clock),
        clock=clock,
        log=_quiet(clock),
        jitter=random.Random(1),
        quarantine=lambda: quarantine.reason,
    )


def _admission(quarantine: Quarantine, ledger: Ledger) -> BoxAdmission:
    return BoxAdmission(
        conditions=quarantine.conditions,
        signing_lag=lambda: ledger.signing_lag,
        unsigned_age_max_ms=DAY_MS,
        unsigned_entries_max=100_000,
    )


async def _screener(ledger: Ledger, clock: FakeClock, settings: Screening | None) -> Screener:
    """With the model that ships."""
    screener = Screener(
        settings=settings or Screening(),
        zone=CALENDAR.zone,
        ledger=ledger,
        clock=clock,
        count=lambda _verdict, _rule: None,
    )
    await screener.load(MODEL)
    return screener


def _operations(
    ledger: Ledger,
    providers: Providers,
    supervisor: Supervisor,
    clock: FakeClock,
    stages: Stages,
    limits: OfflineLimits,
    vault: Vault,
) -> Operations:
    return Operations(
        ledger=ledger,
        providers=providers,
        supervisor=supervisor,
        clock=clock,
        log=_quiet(clock),
        stages=stages,
        log_origin=genesis().read().origin,
        source_default="pm_card_visa",
        readers=readers_of_tills(),
        vault=vault,
        capture_window_ms=CAPTURE_WINDOW_MS,
        offline_limits=limits,
    )


def _quiet(clock: FakeClock) -> Log:
    return Log(sink=lambda _line: None, clock=clock)


async def rebuilt_equal(shop: Shop) -> None:
    """Rebuilding the tables from the log gives the same rows."""

    def compare(connection: Connection) -> None:
        with closing(connect(":memory:", isolation_level=None)) as copy:
            connection.backup(copy)
            before = tables_digest(copy, PROJECTIONS)
            rebuild(copy, PROJECTIONS, None)
            assert tables_digest(copy, PROJECTIONS) == before

    await shop.ledger.read(compare)


def _authenticate(terminals: Terminals, clock: FakeClock, audience: str, ledger: Ledger) -> Authenticate:
    return Authenticate(
        terminals=terminals,
        watermark=BlindWatermark(),
        clock=clock,
        audience=audience,
        clock_skew_max_ms=300_000,
        is_used=partial(is_used, ledger),
    )


class _Till(TypedDict):
    drawers: Drawers
    vouchers: Vouchers
    reports: Reports
    days: ShopDays


def _till(
    authenticate: Authenticate, admission: BoxAdmission, ledger: Ledger, clock: FakeClock, quarantine: Quarantine
) -> _Till:
    return _Till(
        drawers=Drawers(authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency="EUR"),
        vouchers=Vouchers(authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency="EUR"),
        reports=Reports(authenticate=authenticate, admission=admission, ledger=ledger, clock=clock, currency="EUR"),
        days=ShopDays(
            ledger=ledger,
            clock=clock,
            log=_quiet(clock),
            calendar=CALENDAR,
            currency="EUR",
            quarantine=lambda: quarantine.reason,
            attested=unattested,
        ),
    )


def _pairing(terminals: Terminals, authenticate: Authenticate, clock: FakeClock, audience: str) -> Pairing:
    return Pairing(
        terminals=terminals,
        authenticate=authenticate,
        clock=clock,
        audience=audience,
        currency="EUR",
        trust="{}",
        authority=lambda: "",
        certificate_sha256=lambda: CERTIFICATE,
        admit=lambda: None,
    )

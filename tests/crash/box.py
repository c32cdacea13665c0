"""The box under test: the real process, which kills itself at a named point. Holds no test.

    python -m tests.crash.box          a nursery: each line of JSON on stdin is a box to start, its pid goes to stdout

The nursery has imported everything already and forks, so that a start takes a fifth of a second instead of two; what
it forks runs `appliance.__main__.main` on the real wiring. Production code has no hooks: the points are in the wrapped
ledger, provider and middleware below.

Points are `before KIND` and `after KIND` (the append of an entry of that kind), `before ask` and `after ask` (the
provider), `before offer` and `after offer`, `after put`, `after drop`, `before reseal` and `after reseal` (the vault),
`signed` (a receipt's head) and `answer VERB` (a request is done, its answer not sent).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from appliance import __main__ as process
from appliance.adapters import stripe_statement
from appliance.adapters.hsm_link import HsmLink, HsmState
from appliance.adapters.hsm_signer import EnvelopedSigner
from appliance.adapters.paypal import PayPalProvider
from appliance.adapters.pin_pad import PinPadProvider
from appliance.adapters.stripe import StripeProvider
from appliance.api.middleware import make_middleware
from appliance.config.schema import Settings
from appliance.crypto.signing_key import SigningKey, ed25519_from_seed, ml_dsa_87_from_seed
from appliance.ledger.draft import Draft, Purpose, Recorded
from appliance.ledger.genesis import read_body
from appliance.ledger.guard import Guard
from appliance.ledger.head import LogSigners
from appliance.ledger.ledger import Ledger
from appliance.ledger.receipt import ReceiptBundle
from appliance.model.errors import Rejected
from appliance.model.ids import ProviderKey, ProviderName, ProviderReference
from appliance.model.provider_token import TokenBinding, TokenName
from appliance.model.sale import TenderKind
from appliance.model.shop_day import ShopCalendar
from appliance.payment.resolve import Resolver
from appliance.payment.vault.safe import Safe, Step
from appliance.ports import provider as port
from appliance.ports.clock import Clock
from appliance.wiring import box as wiring
from appliance.wiring import opening, reconciling, vault
from appliance.wiring import payments as wiring_payments
from appliance.wiring.trust import Trust
from tests.crash.pad import FilePad
from tests.fakes.cipher import FakeCipher

SEED_BYTES = 32
SETTLE_MS = 1_000
PR_SET_PDEATHSIG = 1


_passed: Counter[str] = Counter()


def die_at(point: str) -> None:
    """The power goes here, if this is the place that the environment names, the first time or the Nth: `PLACE N`."""
    _passed[point] += 1
    if os.environ.get("DIE_AT") in ((point, f"{point} 1") if _passed[point] == 1 else (f"{point} {_passed[point]}",)):
        Path(os.environ["DIED_FILE"]).write_text(point)
        os.kill(os.getpid(), signal.SIGKILL)


class DyingLedger(Ledger):
    """The real ledger, with an end before or after each kind of entry."""

    async def append(
        self, drafts: Sequence[Draft], guard: Guard | None = None, *, purpose: Purpose
    ) -> tuple[Recorded, ...]:
        die_at(f"before {drafts[0].kind}")
        recorded = await super().append(drafts, guard, purpose=purpose)
        die_at(f"after {drafts[0].kind}")
        return recorded

    async def append_each(
        self, members: Sequence[tuple[Sequence[Draft], Guard | None]], *, purpose: Purpose
    ) -> list[tuple[Recorded, ...] | Rejected]:
        die_at("before batch")
        answers = await super().append_each(members, purpose=purpose)
        die_at("after batch")
        return answers

    async def receipts(self, seqs: Sequence[int], wait_ms: int) -> ReceiptBundle | None:
        bundle = await super().receipts(seqs, wait_ms)
        die_at("signed")
        return bundle


class DyingSafe(Safe):
    """The real safe, with an end around what it writes beside the log."""

    async def put(self, binding: TokenBinding, token: bytes, key_id: int) -> bool:
        is_put = await super().put(binding, token, key_id)
        die_at("after put")
        return is_put

    async def drop(self, names: Iterable[TokenName]) -> None:
        await super().drop(names)
        die_at("after drop")

    async def reseal(self, key_id: int, *, after: str) -> Step:
        is_rotating = len(await self.keys()) > 1
        if is_rotating:
            die_at("before reseal")
        step = await super().reseal(key_id, after=after)
        if is_rotating:
            die_at("after reseal")
        return step


class DyingProvider:
    """The real adapter, with an end before the request leaves and after its answer came."""

    def __init__(self, inner: port.Provider) -> None:
        self._inner = inner

    async def authorise(self, operation: port.Authorise) -> port.Answer:
        return await self._ask(lambda: self._inner.authorise(operation))

    async def capture(self, operation: port.Capture) -> port.Answer:
        return await self._ask(lambda: self._holds.capture(operation))

    async def refund(self, operation: port.Refund) -> port.Answer:
        return await self._ask(lambda: self._inner.refund(operation))

    async def cancel(self, operation: port.Cancel) -> port.Answer:
        inner = self._inner if isinstance(self._inner, FilePad | PinPadProvider) else self._holds
        return await self._ask(lambda: inner.cancel(operation))

    async def forward(self, operation: port.Forward) -> port.Answer:
        assert isinstance(self._inner, FilePad | PinPadProvider)
        inner = self._inner
        return await self._ask(lambda: inner.forward(operation))

    def patience_ms(self, operation: port.Operation) -> int:
        return self._inner.patience_ms(operation)

    def give_up(self, provider_key: ProviderKey) -> None:
        self._inner.give_up(provider_key)

    def hurry(self, reference: ProviderReference) -> bool:
        return self._inner.hurry(reference)

    async def find(
        self, operation: port.Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> port.Found | port.Absent | port.Unknown:
        return await self._inner.find(operation, since_ms=since_ms, known=known)

    async def close(self) -> None:
        await self._inner.close()

    @property
    def customer_ms(self) -> int:
        return self._offers.customer_ms

    async def offer(self, operation: port.Offer) -> port.Offered | port.Refused | port.NotSent | port.Unknown:
        die_at("before offer")
        made = await self._offers.offer(operation)
        die_at("after offer")
        return made

    async def await_customer(
        self, operation: port.Offer, of: ProviderReference
    ) -> port.Confirmed | port.Declined | port.Unknown:
        return await self._offers.await_customer(operation, of)

    async def look_at_offer(
        self, operation: port.Offer, of: ProviderReference
    ) -> port.Confirmed | port.Declined | port.Unknown:
        return await self._offers.look_at_offer(operation, of)

    @property
    def _holds(self) -> port.Holds:
        assert isinstance(self._inner, StripeProvider)
        return self._inner

    @property
    def _offers(self) -> port.Offers:
        assert isinstance(self._inner, PayPalProvider | PinPadProvider)
        return self._inner

    async def _ask(self, ask: Callable[[], Awaitable[port.Answer]]) -> port.Answer:
        die_at("before ask")
        answer = await ask()
        die_at("after ask")
        return answer


class QuickResolver(Resolver):
    """Proves absence after a second: no setting lets a shop do that, because a slow provider would make it a lie."""

    def __init__(self, *, settle_ms: int, **parts: Any) -> None:
        super().__init__(settle_ms=min(settle_ms, SETTLE_MS), **parts)


class HealthyLink:
    """What health checks ask of a token that is not there."""

    state = HsmState(kind="ok", reason="")

    async def probe(self) -> HsmState:
        return self.state


def software_keys(folder: Path) -> tuple[SigningKey, SigningKey, bytes]:
    """The log's two keys and the store key of a box without devices, from one file of seeds."""
    seeds = (folder / "seeds").read_bytes()
    first, second, third = (seeds[at : at + SEED_BYTES] for at in range(0, 3 * SEED_BYTES, SEED_BYTES))
    return ed25519_from_seed(first), ml_dsa_87_from_seed(second), third


@asynccontextmanager
async def software_trust(settings: Settings, _clock: Clock) -> AsyncIterator[Trust]:
    """Phase one without TPM and token: the points that are killed at lie elsewhere, and this takes no time."""
    classical, post_quantum, store_key = software_keys(settings.storage.genesis_path.parent)
    signers = LogSigners(classical=EnvelopedSigner(key=classical), post_quantum=EnvelopedSigner(key=post_quantum))
    genesis = read_body(settings.storage.genesis_path.read_bytes())
    yield Trust(
        sealer=None,
        link=cast(HsmLink, HealthyLink()),
        cipher=FakeCipher(store_key),
        signers=signers,
        note=signers.classical,
        store_key=store_key,
        genesis=genesis,
        statement=genesis.read(),
        post_quantum_home="envelope",
    )


def dying_middleware(**parts: Any) -> Middleware:
    """The real middleware, with an end between a request's work and its answer."""
    inner = make_middleware(**parts)

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await inner(request, handler)
        die_at(f"answer {request.match_info.route.name}")
        return response

    return outermost


def install() -> None:
    """Put the wrapped parts into the composition root."""
    open_providers: Callable[[Settings, Ledger, Clock], Awaitable[dict[ProviderName, opening.Opened]]]
    open_providers = vars(wiring)["open_providers"]

    async def open_dying_providers(
        settings: Settings, ledger: Ledger, clock: Clock
    ) -> dict[ProviderName, opening.Opened]:
        opened = await open_providers(settings, ledger, clock)
        if pad := os.environ.get("PAD"):
            inner = FilePad(Path(pad))
            opened[ProviderName("pin_pad")] = opening.Opened(tender=TenderKind.PIN_PAD, provider=inner, forwards=inner)
        return {name: _dying(each) for name, each in opened.items()}

    parts = {
        "open_providers": open_dying_providers,
        "make_middleware": dying_middleware,
    }
    if os.environ.get("DEVICES") != "real":
        parts["open_trust"] = software_trust
    if cut_off := os.environ.get("CUT_OFF"):
        # A day that ended just now, to the millisecond, with a statement that is whole at once.
        vars(reconciling)["ShopCalendar"] = lambda *, zone, **_: ShopCalendar(zone=zone, cut_off=cut_off)
        vars(stripe_statement)["SETTLE_MS"] = 0
    vars(wiring).update(parts)
    vars(opening)["Ledger"] = DyingLedger
    vars(wiring_payments)["Resolver"] = QuickResolver
    vars(vault)["Safe"] = DyingSafe


def _dying(opened: opening.Opened) -> opening.Opened:
    provider = DyingProvider(opened.provider)
    return replace(
        opened,
        provider=provider,
        offers=None if opened.offers is None else provider,
        holds=None if opened.holds is None else provider,
        forwards=None if opened.forwards is None else provider,
    )


def nursery() -> None:
    """Fork a box for each line, until stdin ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead need no reaping
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run_box(asked)
        print(pid, flush=True)


def run_box(asked: dict[str, Any]) -> None:
    """In the forked process; never returns."""
    # A box must not outlive the test that started it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(asked["environment"])
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["appliance", "--config", asked["config"]]
    install()
    code = 1
    try:
        code = process.main()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import stripe  # noqa: F401 - half a second that each fork would spend

    nursery()

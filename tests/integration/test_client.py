"""The till against a scripted box over real TLS: what it repeats, what it believes, what it remembers."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.model.limits import DAY_MS
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import Event
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.certificate import issue
from provisioning.conform.box import ScriptedBox
from provisioning.conform.identity import BoxIdentity, make_identity
from provisioning.conform.sales import BASE_SIZE, Sales
from provisioning.conform.script import Act, Script
from provisioning.conform.scripted_log import Forgery, ScriptedLog
from provisioning.terminal import key_file
from provisioning.terminal.asking import ATTEMPT_MS_MIN
from provisioning.terminal.client import TerminalClient, open_terminal
from provisioning.terminal.forward import forward
from provisioning.terminal.home import Profile, TerminalHome
from provisioning.terminal.link import Link
from provisioning.terminal.queue import SaleQueue
from provisioning.terminal.receipts import NotBelieved
from provisioning.terminal.signing import Encoding
from tests.fakes.clock import SkippingClock

TERMINAL = "till-1"
SALE = PaymentBody(currency="EUR", amount_minor=1250, tenders=(TenderBody(kind="cash", amount_minor=1250),))
DEADLINE_MS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A scripted box that listens, and the folder of a terminal paired with it."""

    box: ScriptedBox
    log: ScriptedLog
    home: TerminalHome
    url: str
    clock: SkippingClock

    @asynccontextmanager
    async def till(self, encoding: Encoding = Encoding.COSE) -> AsyncIterator[TerminalClient]:
        async with open_terminal(self.home, clock=self.clock, encoding=encoding) as client:
            yield client


@pytest.fixture(scope="module")
def identity() -> BoxIdentity:
    # Certificates are judged by the machine's clock, so these are dated by it; all else runs on the fake one.
    return make_identity(time.time_ns() // 1_000_000)


@pytest.fixture
async def shop(identity: BoxIdentity, tmp_path: Path) -> AsyncIterator[Shop]:
    clock = SkippingClock()
    home = TerminalHome(folder=tmp_path)
    key = await asyncio.to_thread(key_file.make, home.key_file)
    log = ScriptedLog(identity=identity)
    box = ScriptedBox(
        identity=identity,
        sales=Sales(log=log, clock=clock, terminal=TERMINAL),
        public_key=key.public_key,
        terminal=TERMINAL,
        currency="EUR",
        clock=clock,
    )
    async with box.serve(tmp_path) as url:
        pin = hashlib.sha256(identity.certificate_der).hexdigest()
        profile = Profile(
            url=url, terminal=TERMINAL, audience=identity.audience, currency="EUR", certificate_sha256=pin
        )
        await asyncio.to_thread(home.keep_trust, identity.trust.decode())
        await asyncio.to_thread(home.keep_profile, profile)
        yield Shop(box=box, log=log, home=home, url=url, clock=clock)


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_sale_is_approved_with_a_receipt_and_its_head_is_kept(shop: Shop, encoding: Encoding) -> None:
    async with shop.till(encoding) as till:
        answer = await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    assert (answer.state, answer.pending, answer.total_minor) == ("approved", False, 1250)
    assert answer.receipt is not None
    assert (await asyncio.to_thread(shop.home.memory)).seen == shop.log.head
    assert shop.box.faults == []


@pytest.mark.parametrize("act", [Act.DROP_AFTER, Act.DROP_BEFORE, Act.ERROR_AFTER, Act.GARBLE_AFTER, Act.BUSY])
async def test_lost_or_put_off_sale_is_sent_again_under_its_key(shop: Shop, act: Act) -> None:
    shop.box.begin(Script(acts=(act, act)))
    async with shop.till() as till:
        answer = await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    assert answer.state == "approved"
    assert len(shop.box.heard) == 3
    assert len({(heard.claims.key, heard.payload) for heard in shop.box.heard}) == 1


async def test_retry_after_is_waited_for(shop: Shop) -> None:
    shop.box.begin(Script(acts=(Act.BUSY,), retry_after_s=7))
    async with shop.till() as till:
        await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    first, second = shop.box.heard
    assert second.at_ms - first.at_ms >= 7_000


async def test_sale_that_may_have_happened_ends_unknown_never_failed(shop: Shop) -> None:
    shop.box.begin(Script(then=Act.DROP_AFTER, is_deaf=True))
    async with shop.till() as till:
        with pytest.raises(OutcomeUnknown, match="outcome_unknown"):
            await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))


async def test_busy_box_is_unavailable_because_nothing_happened(shop: Shop) -> None:
    shop.box.begin(Script(then=Act.BUSY))
    async with shop.till() as till:
        with pytest.raises(Unavailable, match="busy"):
            await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))


async def test_no_attempt_is_repeated_too_late_to_hear_its_answer(shop: Shop) -> None:
    shop.box.begin(Script(then=Act.BUSY, retry_after_s=0))
    began_ms = shop.clock.now_ms()
    async with shop.till() as till:
        with pytest.raises(Unavailable, match="busy"):
            await till.payment(SALE, key=till.new_key(), deadline=till.deadline(6_000))
    assert len(shop.box.heard) > 1
    assert shop.box.heard[-1].at_ms - began_ms <= 6_000 - ATTEMPT_MS_MIN


async def test_box_that_does_not_listen_is_unreachable(shop: Shop, unused_tcp_port: int) -> None:
    profile = await asyncio.to_thread(shop.home.profile)
    gone = msgspec.structs.replace(profile, url=f"https://127.0.0.1:{unused_tcp_port}")
    await asyncio.to_thread(shop.home.keep_profile, gone)
    async with shop.till() as till:
        with pytest.raises(Unavailable, match="box_unreachable"):
            await till.payment(SALE, key=till.new_key(), deadline=till.deadline(2_000))


async def test_refusal_is_final_and_sent_once(shop: Shop) -> None:
    shop.box.begin(Script(then=Act.REFUSE))
    async with shop.till() as till:
        with pytest.raises(Rejected, match="amount_not_positive"):
            await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    assert len(shop.box.heard) == 1


@pytest.mark.parametrize("script", [Script(ending="approved"), Script(ending="declined")], ids=["approved", "declined"])
async def test_card_is_followed_to_its_end(shop: Shop, script: Script) -> None:
    shop.box.begin(script)
    async with shop.till() as till:
        answer = await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    assert (answer.state, answer.pending) == (script.ending, False)
    assert len(shop.box.heard) == 1


async def test_card_without_an_end_is_being_checked_at_the_deadline(shop: Shop) -> None:
    shop.box.begin(Script(ending="never"))
    async with shop.till() as till:
        answer = await till.payment(SALE, key=till.new_key(), deadline=till.deadline(3_000))
    assert answer.state == "being_checked"


async def test_answer_without_receipt_is_pending_until_it_is_proven(shop: Shop) -> None:
    shop.box.begin(Script(pending_answers=2))
    async with shop.till() as till:
        answer = await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    assert answer.receipt is not None


@pytest.mark.parametrize("offset_ms", [2 * 3_600_000, -3 * 3_600_000])
async def test_clock_is_learnt_once_and_the_key_stays(shop: Shop, offset_ms: int) -> None:
    shop.box.begin(Script(clock_offset_ms=offset_ms))
    async with shop.till() as till:
        await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    assert len(shop.box.heard) == 2
    assert len({heard.claims.key for heard in shop.box.heard}) == 1
    shop.box.begin(Script(clock_offset_ms=offset_ms))
    async with shop.till() as till_after_restart:
        await till_after_restart.payment(
            SALE, key=till_after_restart.new_key(), deadline=till_after_restart.deadline(DEADLINE_MS)
        )
    assert len(shop.box.heard) == 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Script(forgery=Forgery.ENTRY_CHANGED), "receipt_refused"),
        (Script(forgery=Forgery.CLASSICAL_CHANGED), "receipt_refused"),
        (Script(forgery=Forgery.POST_QUANTUM_CHANGED), "receipt_refused"),
        (Script(forgery=Forgery.FOREIGN_KEYS), "receipt_refused"),
        (Script(then=Act.ANSWER_OF_ANOTHER), "answer_of_another_request"),
        (Script(then=Act.RECEIPT_OF_ANOTHER), "receipt_of_another_sale"),
    ],
)
async def test_answer_that_its_receipt_does_not_prove_is_not_believed(shop: Shop, script: Script, code: str) -> None:
    shop.box.begin(script)
    async with shop.till() as till:
        with pytest.raises(NotBelieved) as caught:
            await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    assert caught.value.code == code
    assert (await asyncio.to_thread(shop.home.memory)).seen is None


async def test_log_that_went_back_is_noticed_after_a_restart_of_the_till(shop: Shop) -> None:
    async with shop.till() as till:
        await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    seen = shop.log.head
    shop.box.begin(Script(log_size=BASE_SIZE))
    async with shop.till() as till:
        with pytest.raises(NotBelieved, match="log_went_back"):
            await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    assert shop.box.heard[-1].claims.seen == seen
    assert (await asyncio.to_thread(shop.home.memory)).seen == seen


async def test_accepted_payment_that_the_box_denies_later_is_not_believed(shop: Shop) -> None:
    shop.box.begin(Script(ending="never", is_forgetful=True))
    async with shop.till() as till:
        # The box looks for events in a loop of skipped sleeps, so its time flies while the till waits for one.
        with pytest.raises(NotBelieved, match="payment_forgotten"):
            await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DAY_MS))


async def test_status_of_a_key_never_seen_says_so(shop: Shop) -> None:
    async with shop.till() as till:
        with pytest.raises(Rejected, match="payment_unknown"):
            await till.status(till.new_key(), deadline=till.deadline(DEADLINE_MS))


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_stored_sales_are_handed_over_once_and_proven(shop: Shop, tmp_path: Path, encoding: Encoding) -> None:
    queue = await asyncio.to_thread(lambda: SaleQueue(path=tmp_path / "queue.sqlite"))
    async with shop.till(encoding) as till:
        keys = [till.new_key() for _ in range(3)]
        for key in keys:
            await asyncio.to_thread(queue.store, key, SALE)
        assert await forward(queue, till, deadline=till.deadline(DEADLINE_MS)) == 3
        assert await forward(queue, till, deadline=till.deadline(DEADLINE_MS)) == 0
        answer = await till.status(keys[0], deadline=till.deadline(DEADLINE_MS))
    assert answer.state == "approved"
    assert {each.key for each in await asyncio.to_thread(queue.settled, "approved")} == set(keys)


async def test_batch_with_a_forged_receipt_stays_in_the_queue(shop: Shop, tmp_path: Path) -> None:
    queue = await asyncio.to_thread(lambda: SaleQueue(path=tmp_path / "queue.sqlite"))
    shop.box.begin(Script(forgery=Forgery.POST_QUANTUM_CHANGED))
    async with shop.till() as till:
        await asyncio.to_thread(queue.store, till.new_key(), SALE)
        with pytest.raises(NotBelieved, match="receipt_refused"):
            await forward(queue, till, deadline=till.deadline(DEADLINE_MS))
    assert await asyncio.to_thread(queue.waiting_count) == 1


async def test_events_go_on_where_they_ended(shop: Shop) -> None:
    async with shop.till() as till:
        first = await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
        second = await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
        assert [event.key for event in await _events(till, -1, 2)] == [first.key, second.key]
        assert [event.key for event in await _events(till, first.seq, 1)] == [second.key]


async def _events(till: TerminalClient, after: int, count: int) -> list[Event]:
    events: list[Event] = []
    stream = till.events(after=after)
    async for event in stream:
        events.append(event)
        if len(events) == count:
            break
    await stream.aclose()
    return events


async def test_another_certificate_than_the_pinned_one_is_refused_before_anything_is_sent(shop: Shop) -> None:
    profile = await asyncio.to_thread(shop.home.profile)
    await asyncio.to_thread(shop.home.keep_profile, msgspec.structs.replace(profile, certificate_sha256="00" * 32))
    async with shop.till() as till:
        with pytest.raises(Rejected, match="certificate_wrong"):
            await till.payment(SALE, key=till.new_key(), deadline=till.deadline(DEADLINE_MS))
    assert shop.box.heard == []


async def test_authority_that_did_not_sign_the_certificate_is_refused(shop: Shop, tmp_path: Path) -> None:
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    foreign = await asyncio.to_thread(lambda: issue(tmp_path / "foreign", now=now, shop="another"))
    async with Link(url=shop.url, ca_file=str(foreign.authority)) as link:
        with pytest.raises(Rejected, match="certificate_wrong"):
            await link.get("/v1/info", Deadline.after(shop.clock, DEADLINE_MS))

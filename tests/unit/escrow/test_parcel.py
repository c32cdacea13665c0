"""Owns the promises of escrow: what waited is in the parcel, proven; nobody can change or thin it out; none doubles."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.crypto import cbor, hpke
from appliance.crypto.hpke import Recipient
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.parcel import PADDED_BYTES, OpenedParcel, open_parcel
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import ProviderName, request_key
from appliance.model.limits import MINUTE_MS
from appliance.model.operation import FIRST_PROVIDER
from appliance.model.sale import TenderKind
from appliance.payment.escrow import ENTRIES_MAX, WAITING, Escrow
from appliance.payment.lost_operations import lost_accounts, lost_operations
from appliance.payment.providers import SetUp
from appliance.payment.recovery import Recovered, Recovery
from appliance.wire.answers import EscrowAnswer
from appliance.wire.escrow_entries import ESCROWED
from tests.fakes.clock import FakeClock
from tests.fakes.provider import FakeProvider, Switch
from tests.unit.ledger.shop import genesis
from tests.unit.payment.offline import open_till
from tests.unit.payment.shop import SETTLE_MS, Shop, open_shop, rebuilt_equal
from tests.unit.till.kept import card_of

SEED = bytes(range(32))
CUSTOMER = "Lise Meitner"


def escrow_of(shop: Shop, seed: bytes = SEED) -> Escrow:
    recipient = Recipient(hpke.public_key_of(seed))
    return Escrow(
        authenticate=shop.authenticate,
        ledger=shop.ledger,
        recipient=recipient,
        accounts=lambda: shop.operations.providers.accounts,
        clock=shop.clock,
    )


async def give(shop: Shop, escrow: Escrow, size: int = 0) -> EscrowAnswer:
    return await escrow.give(shop.request("escrow", {"size": size}))


async def parcel_of(shop: Shop) -> bytes:
    answer = await give(shop, escrow_of(shop))
    assert answer.parcel is not None
    return answer.parcel


def opened(parcel: bytes, shop: Shop, *, seed: bytes = SEED) -> OpenedParcel:
    statement = genesis().read()
    logs = {shop.ledger.log_id: LogKeys.of(shop.ledger.log_id, statement)}
    return open_parcel(parcel, seed, logs, {shop.ledger.log_id: statement.origin}, ESCROWED)


def refused(parcel: bytes, shop: Shop, *, seed: bytes = SEED) -> str:
    with pytest.raises(Rejected) as refusal:
        opened(parcel, shop, seed=seed)
    return refusal.value.code


def entries_of(parcel: OpenedParcel) -> list[str]:
    return [parcel.entries[seq].kind for each in parcel.manifest.waiting for seq in each.seqs]


async def sell(shop: Shop, switch: Switch = Switch.NONE, **more: Any) -> str:
    key = shop.new_key()
    shop.provider.strike(switch)
    await shop.pipeline.pay(shop.request("payment", card_of("pm_card_visa", **more), key))
    await shop.works_done()
    return key


async def test_a_payment_that_waits_is_in_the_parcel_with_its_proof_and_no_name(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await sell(shop)
        lost = await sell(shop, Switch.FAIL_AFTER, customer=CUSTOMER)
        parcel = await parcel_of(shop)
        found = opened(parcel, shop)
        assert [each.payment for each in found.manifest.waiting] == [request_key(lost).octets]
        assert entries_of(found) == ["intent", "outcome"]
        (operation,) = lost_operations(found.entries.values())
        assert (str(operation.payment), operation.kind, operation.money.amount_minor) == (lost, "authorise", 990)
        assert found.tail[-1].kind == ESCROWED
        receipt, manifest, tail, pad = _content(parcel)
        assert CUSTOMER.encode() not in receipt + manifest + b"".join(tail)
        assert len(receipt + manifest + pad + b"".join(tail)) > PADDED_BYTES - 512
        await rebuilt_equal(shop)


async def test_an_accepted_card_waits_in_the_device_until_its_bank_was_asked(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        key = (await till.sell(1_000)).key
        (operation,) = lost_operations(opened(await parcel_of(till.shop), till.shop).entries.values())
        assert (str(operation.payment), operation.is_in_device, operation.known) == (key, True, till.reference())
        till.pads.is_bank_down = False
        await till.forward()
        assert opened(await parcel_of(till.shop), till.shop).manifest.waiting == ()


async def test_a_card_that_could_not_be_forwarded_or_forgotten_waits_in_its_device_still(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        tried, kept = (await till.sell(1_000)).key, (await till.sell(1_000)).key
        await till.forward()
        till.pads.keeps = True
        await till.reverse(kept)
        await till.shop.resolver.look()
        await till.shop.works_done()
        kinds = await till.shop.rows("SELECT kind, state FROM operations WHERE kind <> 'authorise' ORDER BY intent")
        assert [*kinds[:2]] == [("forward", "absent"), ("withdraw", "rejected")]
        lost = lost_operations(opened(await parcel_of(till.shop), till.shop).entries.values())
        assert [(str(each.payment), each.is_in_device) for each in lost] == [(tried, True), (kept, True)]


async def test_a_long_outage_of_the_banks_leaves_every_waiting_card_in_the_parcel(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        keys = [(await till.sell(1_000)).key for _ in range(3)]
        for _ in range(ENTRIES_MAX // 2 + 1):
            till.shop.clock.pass_time(5 * MINUTE_MS)
            await till.forward()
        assert await till.shop.rows("SELECT count(*) FROM operations WHERE kind = 'forward'") >= [(ENTRIES_MAX // 2,)]
        found = opened(await parcel_of(till.shop), till.shop)
        assert [each.payment for each in found.manifest.waiting] == [request_key(key).octets for key in keys]
        assert found.manifest.left_out == 0
        assert all(each.is_in_device for each in lost_operations(found.entries.values()))


async def test_what_an_intent_allowed_is_asked_for_by_the_second_box_too(tmp_path: Path) -> None:
    async with open_till(tmp_path) as till:
        till.pads.strike(Switch.FAIL_AFTER)
        key = (await till.sell(1_000)).key
        (lost,) = lost_operations(opened(await parcel_of(till.shop), till.shop).entries.values())
        assert (str(lost.payment), lost.is_in_device) == (key, False)
        assert lost.operation is not None
        assert lost.operation.may_accept_offline  # else a card that its device accepted would never be found


async def test_all_terminals_get_one_parcel_and_a_new_one_only_when_something_changed(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        escrow = escrow_of(shop)
        await sell(shop, Switch.FAIL_AFTER)
        first = await give(shop, escrow)
        assert (await give(shop, escrow)).parcel == first.parcel
        size = shop.ledger.head.size
        same = await give(shop, escrow, first.size)
        assert (same.parcel, same.size, same.waiting, shop.ledger.head.size) == (None, first.size, 1, size)
        await sell(shop, Switch.FAIL_AFTER)
        second = await give(shop, escrow, first.size)
        assert second.parcel is not None
        assert (second.waiting, second.size > first.size) == (2, True)
        await sell(shop)  # the log grows, nobody waits more: once a minute is enough
        assert (await give(shop, escrow, second.size)).parcel is None
        shop.clock.pass_time(MINUTE_MS)
        assert (await give(shop, escrow, second.size)).parcel is not None


async def test_what_has_no_room_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.payment.escrow.ENTRIES_MAX", 3)
    async with open_shop(tmp_path) as shop:
        for _ in range(2):
            await sell(shop, Switch.FAIL_AFTER)
        answer = await give(shop, escrow_of(shop))
        assert answer.parcel is not None
        assert (answer.waiting, opened(answer.parcel, shop).manifest.left_out) == (2, 1)
    assert ENTRIES_MAX > 3


async def test_without_a_recipient_it_is_refused_by_name(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        escrow = Escrow(
            authenticate=shop.authenticate, ledger=shop.ledger, recipient=None, accounts=dict, clock=shop.clock
        )
        with pytest.raises(Rejected, match="escrow_not_set_up"):
            await give(shop, escrow)


async def test_another_key_a_flipped_bit_and_a_foreign_log_are_refused_by_name(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await sell(shop, Switch.FAIL_AFTER)
        parcel = await parcel_of(shop)
        assert refused(parcel, shop, seed=bytes(32)) == "escrow_wrong_key"
        assert refused(parcel[:-1], shop) == "escrow_malformed"
        assert refused(b"", shop) == "escrow_malformed"
        for at in (len(parcel) - 1, len(parcel) // 2):
            flipped = parcel[:at] + bytes([parcel[at] ^ 1]) + parcel[at + 1 :]
            assert refused(flipped, shop) == "escrow_changed"
        with pytest.raises(Rejected, match="escrow_foreign"):
            open_parcel(parcel, SEED, {}, {}, ESCROWED)


async def test_whoever_can_seal_can_neither_leave_a_payment_out_nor_lie_about_the_time(tmp_path: Path) -> None:
    """A terminal knows the public key, and may even know entries: it lacks the log's signature over another list."""
    async with open_shop(tmp_path) as shop:
        for _ in range(2):
            await sell(shop, Switch.FAIL_AFTER)
        parcel = await parcel_of(shop)
        receipt, manifest, tail, _pad = _content(parcel)
        found = opened(parcel, shop)
        thinner = replace(found.manifest, waiting=found.manifest.waiting[:1]).encode()
        assert refused(_sealed(found, (receipt, thinner, tail)), shop) == "escrow_not_genuine"
        later = replace(found, header=replace(found.header, size=found.header.size + 1))
        assert refused(_sealed(later, (receipt, manifest, tail)), shop) == "escrow_not_genuine"
        for cut in (tail[:-1], [*tail[:-2], tail[-1]], []):
            assert refused(_sealed(found, (receipt, manifest, cut)), shop) == "escrow_not_genuine"
        assert opened(_sealed(found, (receipt, manifest, tail)), shop).manifest == found.manifest


async def test_the_end_of_the_log_follows_entry_by_entry(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        for _ in range(3):
            await sell(shop)
        found = opened(await parcel_of(shop), shop)
        rows = await shop.rows("SELECT entry FROM entries ORDER BY seq")
        assert [entry.encoded for entry in found.tail] == [row[0] for row in rows][-len(found.tail) :]


async def test_with_signing_down_there_is_no_parcel_and_no_entry_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_shop(tmp_path) as shop:
        await sell(shop, Switch.FAIL_AFTER)

        async def unsigned(*_: object) -> None:
            return None

        monkeypatch.setattr(shop.ledger, "receipts", unsigned)  # as with the HSM away
        size = shop.ledger.head.size
        with pytest.raises(Unavailable, match="signing_down"):
            await give(shop, escrow_of(shop))
        assert shop.ledger.head.size == size


def cards_of(provider: FakeProvider, account: str | None) -> dict[ProviderName, SetUp]:
    """Cards in this account, as the provider itself says."""
    cards = SetUp(
        tender=TenderKind.CARD, provider=provider, holds=provider, admit=provider.admit, account=lambda: account
    )
    return {FIRST_PROVIDER: cards}


async def ask(second: Shop, parcel: OpenedParcel) -> tuple[Recovered, ...]:
    recovery = Recovery(
        ledger=second.ledger, operations_of=lambda _: second.operations, clock=second.clock, settle_ms=SETTLE_MS
    )
    log = hashlib.sha256(b"the lost log").digest()
    lost = lost_operations(parcel.entries.values())
    accounts = lost_accounts(parcel.entries.values())
    await recovery.ask(type(parcel.log_id)(log), parcel.header.origin, lost, accounts)
    second.clock.pass_time(2 * SETTLE_MS)
    return await recovery.ask(type(parcel.log_id)(log), parcel.header.origin, lost, accounts)


async def test_a_second_box_finds_out_what_became_of_each_and_moves_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    cards = cards_of(provider := FakeProvider(clock=clock), "acct_1 test")
    async with open_shop(tmp_path / "first", clock=clock, asked=provider, more=cards) as first:
        first = replace(first, provider=provider)
        taken = await sell(first, Switch.FAIL_AFTER)
        never = await sell(first, Switch.FAIL_BEFORE)
        parcel = opened(await parcel_of(first), first)
    # The power is gone for ever; all that is left is what a terminal kept.
    asked, charged = len(provider.asked), provider.charged_minor()
    async with open_shop(tmp_path / "second", clock=clock, asked=provider, more=cards) as second:
        found = {str(each.operation.payment): each for each in await ask(second, parcel)}
        assert (found[taken].state, found[never].state) == ("confirmed", "absent")
        assert found[taken].reference is not None
        again = {str(each.operation.payment): each for each in await ask(second, parcel)}
        assert {each.seq for each in again.values()} == {each.seq for each in found.values()}
        assert (len(provider.asked), provider.charged_minor()) == (asked, charged)
        assert await second.rows("SELECT count(*) FROM entries WHERE kind = 'escrow_recovered'") == [(2,)]
        await rebuilt_equal(second)


async def test_a_stale_parcel_does_not_bring_back_what_was_settled_after_it(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "first") as first:
        key = await sell(first, Switch.FAIL_AFTER)
        stale = opened(await parcel_of(first), first)
        await first.settle()
        await first.pipeline.refund(first.request("refund", {"of": key}))
        await first.works_done()
        provider, clock = first.provider, first.clock
    charged = provider.charged_minor()
    assert charged == 0
    async with open_shop(tmp_path / "second", clock=clock, asked=provider) as second:
        (found,) = await ask(second, stale)
        assert found.state == "confirmed"  # it was charged, and it is told so; that it was refunded the provider shows
        assert provider.charged_minor() == charged


async def test_a_provider_that_cannot_be_read_or_is_not_set_up_is_left_open(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "first") as first:
        await sell(first, Switch.FAIL_AFTER)
        parcel = opened(await parcel_of(first), first)
        provider, clock = first.provider, first.clock
    provider.is_reading_down = True
    async with open_shop(tmp_path / "second", clock=clock, asked=provider) as second:
        (found,) = await ask(second, parcel)
        assert (found.state, found.seq) == ("ask_again", None)
        (operation,) = lost_operations(parcel.entries.values())
        assert operation.operation is not None
        foreign = replace(operation, operation=replace(operation.operation, provider=ProviderName("elsewhere")))
        recovery = Recovery(
            ledger=second.ledger, operations_of=lambda _: second.operations, clock=clock, settle_ms=SETTLE_MS
        )
        (missing,) = await recovery.ask(parcel.log_id, parcel.header.origin, [foreign], {})
        assert (missing.state, missing.seq) == ("provider_missing", None)


async def test_what_waits_is_found_by_an_index_however_much_was_sold(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        plan = await shop.ledger.read(
            lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {WAITING}", (1,)).fetchall()
        )
        assert [step[-1] for step in plan] == ["SCAN payments USING INDEX payments_waiting"]


def _content(parcel: bytes) -> tuple[bytes, bytes, list[bytes], bytes]:
    header, sealed = msgspec.convert(cbor.decode(parcel, size_max=1 << 20), tuple[bytes, bytes])
    plain = hpke.open_sealed(SEED, sealed, b"tillstone/escrow/v1\x00" + header)
    return msgspec.convert(cbor.decode(plain, size_max=1 << 20), tuple[bytes, bytes, list[bytes], bytes])


def _sealed(found: OpenedParcel, content: tuple[bytes, bytes, list[bytes]]) -> bytes:
    """As anybody can who has the public key."""
    header = found.header.encode()
    sealed = Recipient(hpke.public_key_of(SEED)).seal(cbor.encode([*content, b""]), b"tillstone/escrow/v1\x00" + header)
    return cbor.encode([header, sealed])

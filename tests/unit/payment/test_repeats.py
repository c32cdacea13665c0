"""A key that comes again: the first result, or a refusal; and what is left to compare with once a person was erased."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from appliance.crypto.disclosure import SALT_SIZE, commit
from appliance.identity.authenticate import payload_hash
from appliance.ledger.database import database_file
from appliance.ledger.draft import Disclosure
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import TerminalId, request_key
from appliance.model.payment import Identity
from appliance.payment.records import find_request
from appliance.payment.repeats import AlreadyRecorded, judge
from appliance.wire.requests import PaymentBody
from tests.unit.payment.shop import Shop, open_shop

CUSTOMER: Final = "Grace Brewster Hopper"
CASHIER: Final = "Augusta Ada King"
CASH: Final[dict[str, Any]] = {
    "currency": "EUR",
    "amount_minor": 1250,
    "tenders": [{"kind": "cash", "amount_minor": 1250}],
}
SOLE: Final = CASH | {"customer": CUSTOMER}
BOTH: Final = SOLE | {"cashier": CASHIER}
CARD_BOTH: Final = BOTH | {"tenders": [{"kind": "card", "amount_minor": 1250, "source": "pm_card_visa"}]}


def hash_of(body: dict[str, Any]) -> bytes:
    """What anybody can compute who guesses the whole request."""
    return payload_hash("payment", "till-1", msgspec.convert(body, PaymentBody))


async def kept(shop: Shop, key: str) -> tuple[bytes, tuple[Disclosure, ...]]:
    """The entry's commitment to the payload, and what can still be opened beside it."""
    known = await shop.ledger.read(lambda connection: find_request(connection, request_key(key)))
    assert known is not None
    return known.payload, await shop.ledger.disclosures(known.seq)


def opens(commitment: bytes, body: dict[str, Any], disclosed: tuple[Disclosure, ...]) -> bool:
    """Whether the guess `body` can be proven with any of the salts that are left, or none, alone or together."""
    salts = [each.salt for each in disclosed]
    chosen = [some for count in range(len(salts) + 1) for some in combinations(salts, count)]
    return any(commit(reduce(exclusive_or, some, bytes(SALT_SIZE)), hash_of(body)) == commitment for some in chosen)


def exclusive_or(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))


def salted_anywhere(folder: Path, commitment: bytes, body: dict[str, Any]) -> bool:
    """Whether any 16 bytes of any file are the salt under which `body` fits; or its hash stands there as it is."""
    guess = hash_of(body)
    for file in folder.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        if guess in content or guess.hex().encode() in content:
            return True
        pieces = {content[at : at + SALT_SIZE] for at in range(len(content))}
        if any(hashlib.sha256(piece + guess).digest() == commitment for piece in pieces):
            return True
    return False


@pytest.mark.parametrize("who", [f"customer:{CUSTOMER}", f"cashier:{CASHIER}"])
@pytest.mark.parametrize(("body", "is_batch"), [(BOTH, False), (BOTH, True), (CARD_BOTH, False)])
async def test_the_right_guess_proves_nothing_once_a_person_is_erased(
    tmp_path: Path, body: dict[str, Any], is_batch: bool, who: str
) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        if is_batch:
            await shop.batch.take(shop.request("batch", {"items": [{"key": key, "payment": body}]}))
        else:
            await shop.pipeline.pay(shop.request("payment", body, key))
        commitment, disclosed = await kept(shop, key)
        assert opens(commitment, body, disclosed), "the search would find it"
        assert not opens(commitment, body | {"customer": "Somebody Else"}, disclosed)

        await shop.ledger.erase(who, actor="box")

        commitment, left = await kept(shop, key)
        assert left, "the other person's share is still there"
        assert not opens(commitment, body, left)


async def test_no_file_holds_the_salt_that_a_guess_needs(tmp_path: Path) -> None:
    data, marked = tmp_path / "data", tmp_path / "marked"
    for folder in (data, marked):
        folder.mkdir()
    async with open_shop(data) as shop:
        key = shop.new_key()
        await shop.pipeline.pay(shop.request("payment", SOLE, key))
        commitment, disclosed = await kept(shop, key)
        (salt,) = [each.salt for each in disclosed if each.name == "request"]
        (marked / "file").write_bytes(b"..." + salt + b"...")
        assert salted_anywhere(marked, commitment, SOLE), "the search finds what it looks for"
        await shop.ledger.erase(f"customer:{CUSTOMER}", actor="box")
        assert not salted_anywhere(data, commitment, SOLE)
    assert not salted_anywhere(data, commitment, SOLE)


async def test_another_payload_under_a_used_key_is_refused_as_long_as_the_values_are_there(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        for body in (CASH, SOLE, BOTH):
            key = shop.new_key()
            first = await shop.pipeline.pay(shop.request("payment", body, key))
            again = await shop.pipeline.pay(shop.request("payment", body, key))
            assert (again.state, again.seq) == (first.state, first.seq)
            for other in (body | {"customer": "Somebody Else"}, body | {"reference": "another"}):
                with pytest.raises(Rejected, match="key_reused"):
                    await shop.pipeline.pay(shop.request("payment", other, key))


@pytest.mark.parametrize("who", [f"customer:{CUSTOMER}", f"cashier:{CASHIER}"])
async def test_a_key_of_an_erased_person_gets_the_recorded_result_and_never_a_second_sale(
    tmp_path: Path, who: str
) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.pair("till-2")
        keys = {shop.new_key(): body for body in (BOTH, CARD_BOTH)}
        for key, body in keys.items():
            await shop.pipeline.pay(shop.request("payment", body, key))
        await shop.works_done()
        await shop.ledger.erase(who, actor="box")
        await shop.ledger.rebuild()
        size = shop.ledger.head.size

        for key, body in keys.items():
            recorded = await shop.pipeline.status(shop.request("status", {"of": key}))
            # What differs cannot be seen any more; the answer says what was sold, with its receipt.
            for again in (body, body | {"customer": "Somebody Else", "reference": "another"}):
                answer = await shop.pipeline.pay(shop.request("payment", again, key))
                assert (answer.state, answer.seq, answer.total_minor) == ("approved", recorded.seq, 1250)
            # Who else asks, and for what else, still can be seen.
            with pytest.raises(Rejected, match="key_reused"):
                await shop.pipeline.pay(shop.request("payment", body, key, terminal="till-2"))
            with pytest.raises(Rejected, match="key_reused"):
                await shop.pipeline.refund(shop.request("refund", {"of": next(k for k in keys if k != key)}, key))
        cash = next(iter(keys))
        batch = await shop.batch.take(shop.request("batch", {"items": [{"key": cash, "payment": BOTH}]}))
        assert [each.state for each in batch.results] == ["approved"]
        assert shop.ledger.head.size == size
        assert shop.provider.charged_minor() == 1250


async def test_a_recorded_sale_of_an_erased_person_is_told_while_the_box_takes_nothing_new(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        first = await shop.pipeline.pay(shop.request("payment", SOLE, key))
        await shop.ledger.erase(f"customer:{CUSTOMER}", actor="box")
        shop.quarantine.set("seen elsewhere")
        again = await shop.pipeline.pay(shop.request("payment", SOLE, key))
        assert (again.state, again.seq) == ("approved", first.seq)
        with pytest.raises(Unavailable, match="quarantined"):
            await shop.pipeline.pay(shop.request("payment", SOLE))


@pytest.mark.parametrize("verb", ["refund", "reversal"])
async def test_the_same_undoing_sent_twice_at_once_is_done_once(tmp_path: Path, verb: str) -> None:
    async with open_shop(tmp_path) as shop:
        paid = await shop.pipeline.pay(shop.request("payment", BOTH))
        ask = shop.pipeline.refund if verb == "refund" else shop.pipeline.reverse
        key, size = shop.new_key(), shop.ledger.head.size
        async with asyncio.TaskGroup() as both:
            tasks = [both.create_task(ask(shop.request(verb, {"of": paid.key}, key))) for _ in range(2)]
        assert len({(task.result().state, task.result().seq) for task in tasks}) == 1
        assert shop.ledger.head.size == size + 1
        with pytest.raises(Rejected, match="key_reused"):
            await ask(shop.request(verb, {"of": paid.key, "reason": "another"}, key))


async def test_a_pruned_request_cannot_be_told_apart_and_is_taken_for_recorded(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        key = shop.new_key()
        await shop.pipeline.pay(shop.request("payment", BOTH, key))
        known = await shop.ledger.read(lambda connection: find_request(connection, request_key(key)))
        assert known is not None
        with closing(sqlite3.connect(database_file(tmp_path), isolation_level=None)) as connection:
            connection.execute("DELETE FROM entries WHERE seq = ?", (known.seq,))
            connection.execute("DELETE FROM disclosures WHERE seq = ?", (known.seq,))
        for body, terminal, verdict in (
            (BOTH, "till-1", "already_recorded"),
            (CASH, "till-1", "already_recorded"),
            (BOTH, "till-2", "key_reused"),
        ):
            identity = Identity(
                key=request_key(key),
                terminal=TerminalId(terminal),
                payload_hash=hash_of(body),
                signed=b"",
                received_ms=shop.clock.now_ms(),
            )
            with pytest.raises(Rejected) as caught:
                await judge(shop.ledger, identity, request_key(key), known)
            assert caught.value.code == verdict
            assert isinstance(caught.value, AlreadyRecorded) == (verdict == "already_recorded")

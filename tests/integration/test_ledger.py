"""The ledger on a real file: append, guards, receipts, restart, rebuild, erasure."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from appliance.ledger.draft import Disclosure, Purpose
from appliance.ledger.guard import AllOf, KeysUnused
from appliance.ledger.ledger import Ledger
from appliance.ledger.projection import tables_digest
from appliance.ledger.prover import Watermark
from appliance.ledger.receipt import verify_receipt
from appliance.ledger.trust import encode_trust, load_trust
from appliance.model.errors import Bug, Corrupt, Rejected, Unavailable
from tests.fakes.clock import FakeClock
from tests.unit.ledger.shop import Sales, beginning, draft, genesis, open_ledger, owner, running, sale, signers
from tests.until import until

OUTCOME, INTENT = Purpose.OUTCOME, Purpose.INTENT


class AmountLeft:
    """A guard that reads a projection: the total stays at or below a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def check(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT amount FROM sales_total").fetchone()
        if row is not None and row[0] >= self.limit:
            raise Rejected("limit_reached", f"expected at most {self.limit}, saw {row[0]}")


async def digest(ledger: Ledger) -> bytes:
    return await ledger.read(lambda connection: tables_digest(connection, (Sales(),)))


async def test_a_new_log_begins_with_two_entries_and_ends_where_it_was_after_a_restart(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        assert ledger.head.size == 2
        recorded = await ledger.append([sale("a"), sale("b")], purpose=OUTCOME)
        assert [one.seq for one in recorded] == [2, 3]
        head = ledger.head
    async with running(await open_ledger(tmp_path)) as ledger:
        assert ledger.head == head
        assert ledger.log_id == genesis().log_id
        page = await ledger.entries(-1, 10)
        assert [entry.kind for entry in page.entries] == ["genesis", "epoch", "sale", "sale"]


async def test_a_receipt_of_what_was_committed_before_the_loop_was_told_waits_to_be_told(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        appended = asyncio.ensure_future(ledger.append([sale("a")], purpose=OUTCOME))
        await until("a sale in the writer's queue", lambda: ledger.queue_depth > 0, look_s=0)
        time.sleep(0.3)  # noqa: ASYNC251 - the writer commits meanwhile, and this loop does not hear it
        assert ledger.head.size == 2
        assert await ledger.receipts([2], wait_ms=10_000) is not None
        await appended


async def test_a_receipt_convinces_who_trusts_only_the_owner(tmp_path: Path) -> None:
    trust = load_trust(encode_trust(owner().public, [genesis()]))
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([sale(f"k{at}") for at in range(700)], purpose=OUTCOME)
        bundle = await ledger.receipts([2, 3, 300, 701], wait_ms=5_000)
        assert bundle is not None
        verified = verify_receipt(bundle.encode(), trust.keys)
        assert [entry.seq for entry in verified.entries] == [2, 3, 300, 701]
        assert (verified.size, verified.root) == (ledger.head.size, ledger.head.root)


async def test_an_old_entry_is_proven_anew_after_a_restart(tmp_path: Path) -> None:
    trust = load_trust(encode_trust(owner().public, [genesis()]))
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([sale(f"k{at}") for at in range(1_500)], purpose=OUTCOME)
    async with running(await open_ledger(tmp_path)) as ledger:
        bundle = await ledger.receipts([5, 1_499], wait_ms=5_000)
        assert bundle is not None
        assert len(verify_receipt(bundle.encode(), trust.keys).entries) == 2


async def test_a_refused_member_writes_nothing_and_its_neighbours_go_on(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        first = ledger.append([sale("a")], KeysUnused(table="sales", keys=("a",)), purpose=OUTCOME)
        again = ledger.append([sale("a")], KeysUnused(table="sales", keys=("a",)), purpose=OUTCOME)
        other = ledger.append([sale("b")], KeysUnused(table="sales", keys=("b",)), purpose=OUTCOME)
        answers = await asyncio.gather(first, again, other, return_exceptions=True)
        assert isinstance(answers[1], Rejected)
        assert answers[1].code == "key_used"
        assert ledger.head.size == 4


async def test_a_guard_sees_what_earlier_members_of_its_group_projected(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        appends = [ledger.append([sale(f"k{at}", 10)], AmountLeft(30), purpose=OUTCOME) for at in range(10)]
        answers = await asyncio.gather(*appends, return_exceptions=True)
        assert sum(not isinstance(answer, Rejected) for answer in answers) == 3


async def test_a_guard_of_guards_refuses_with_the_first_reason(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([sale("a", 10)], purpose=OUTCOME)
        guard = AllOf(guards=(KeysUnused(table="sales", keys=("a",)), AmountLeft(5)))
        with pytest.raises(Rejected, match="key_used"):
            await ledger.append([sale("a")], guard, purpose=OUTCOME)


async def test_only_the_culprit_of_a_group_fails(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        drafts = [sale("a"), sale("bad", -1), sale("b"), sale("a")]
        answers = await asyncio.gather(
            *[ledger.append([one], purpose=OUTCOME) for one in drafts], return_exceptions=True
        )
        assert [isinstance(answer, Bug) for answer in answers] == [False, True, False, True]
        assert ledger.head.size == 4
        assert ledger.failure is None


async def test_an_append_of_several_drafts_is_all_or_nothing(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        with pytest.raises(Bug):
            await ledger.append([sale("a"), sale("bad", -1)], purpose=OUTCOME)
        assert ledger.head.size == 2


async def test_a_receipt_is_pending_while_a_signer_is_away_and_comes_when_it_is_back(tmp_path: Path) -> None:
    keys, clock = signers(), FakeClock()
    classical = keys.classical
    classical.fault = "fail_before"  # type: ignore[attr-defined] # the fake's switch
    try:
        async with running(await open_ledger(tmp_path, clock=clock)) as ledger:
            await ledger.append([sale("a")], purpose=OUTCOME)
            assert await ledger.receipts([2], wait_ms=1) is None
            clock.pass_time(1_000)
            assert (ledger.signing_lag.entries, ledger.signing_lag.age_ms) == (3, 1_000)
            classical.fault = "none"  # type: ignore[attr-defined] # the fake's switch
            await clock.advance(10_000)
            assert await ledger.receipts([2], wait_ms=5_000) is not None
            assert ledger.signing_lag.entries == 0
    finally:
        classical.fault = "none"  # type: ignore[attr-defined] # the fake's switch


async def test_rebuilt_tables_equal_the_grown_ones_also_after_an_erasure(tmp_path: Path) -> None:
    buyer = Disclosure(name="buyer", salt=b"s" * 16, value=b"Erika Mustermann", subject="person:1")
    other = Disclosure(name="buyer", salt=b"t" * 16, value=b"Max Beispiel")
    async with running(await open_ledger(tmp_path)) as ledger:
        body = {"amount": 1, "key": "a", "buyer": buyer.commitment}
        await ledger.append([draft("sale", body, (buyer,))], purpose=OUTCOME)
        await ledger.append(
            [draft("sale", {"amount": 2, "key": "b", "buyer": other.commitment}, (other,))], purpose=OUTCOME
        )
        before = await digest(ledger)
        await ledger.rebuild()
        assert await digest(ledger) == before
        assert [item.value for item in await ledger.disclosures(2)] == [b"Erika Mustermann"]

        await ledger.erase("person:1", actor="operator:1")
        erased = await digest(ledger)
        assert erased != before
        assert await ledger.disclosures(2) == ()
        assert [item.value for item in await ledger.disclosures(3)] == [b"Max Beispiel"]
        await ledger.rebuild()
        assert await digest(ledger) == erased


async def test_an_intent_is_refused_when_room_is_short_and_an_outcome_is_not(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path, free_bytes_min=1 << 60)) as ledger:
        with pytest.raises(Unavailable, match="disk_low"):
            await ledger.append([sale("a")], purpose=INTENT)
        await ledger.append([sale("a")], purpose=OUTCOME)


async def test_a_rolled_back_log_is_noticed_by_who_saw_more(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([sale(f"k{at}") for at in range(600)], purpose=OUTCOME)
        head = ledger.head
        await ledger.append([sale("later")], purpose=OUTCOME)
        await ledger.check_watermark(Watermark(size=head.size, root=head.root))
        with pytest.raises(Corrupt, match="log_shorter"):
            await ledger.check_watermark(Watermark(size=head.size + 2, root=head.root))
        with pytest.raises(Corrupt, match="log_differs"):
            await ledger.check_watermark(Watermark(size=head.size - 1, root=head.root))


async def test_a_follower_wakes_when_the_log_grows(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        waiting = asyncio.ensure_future(ledger.wait_beyond(2))
        await asyncio.sleep(0)
        assert not waiting.done()
        await ledger.append([sale("a")], purpose=OUTCOME)
        assert await waiting == 3


async def test_a_page_of_kinds_moves_on_over_what_it_does_not_show(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([sale("a"), draft("note", {}), sale("b")], purpose=OUTCOME)
        page = await ledger.entries(1, 2, frozenset({"note"}))
        assert ([entry.seq for entry in page.entries], page.next_after) == ([3], 3)
        page = await ledger.entries(3, 2, frozenset({"note"}))
        assert (page.entries, page.next_after) == ((), 4)


async def test_a_second_process_cannot_have_the_same_ledger(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)):
        with pytest.raises(Unavailable, match="ledger_locked"):
            await open_ledger(tmp_path)


async def test_a_ledger_with_other_keys_than_its_genesis_does_not_open(tmp_path: Path) -> None:
    keys = signers()
    swapped = type(keys)(classical=keys.post_quantum, post_quantum=keys.classical)
    with pytest.raises(Corrupt, match="log_keys_mismatch"):
        await open_ledger(tmp_path, keys=swapped)


async def test_one_changed_byte_in_the_tail_keeps_the_ledger_closed(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([sale(f"k{at}") for at in range(600)], purpose=OUTCOME)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    (entry,) = connection.execute("SELECT entry FROM entries WHERE seq = 100").fetchone()
    changed = entry.replace(b"terminal:1", b"terminal:2")
    connection.execute("UPDATE entries SET entry = ? WHERE seq = 100", (changed,))
    connection.commit()
    connection.close()
    with pytest.raises(Corrupt, match="entry 101"):
        await open_ledger(tmp_path)


async def test_no_file_holds_the_plaintext_of_a_disclosure_or_names_its_subject(tmp_path: Path) -> None:
    name = "a name that greps well"
    secret = Disclosure(name="buyer", salt=b"q" * 16, value=name.encode(), subject=f"buyer:{name}")
    async with running(await open_ledger(tmp_path, projections=())) as ledger:
        await ledger.append([draft("note", {"buyer": secret.commitment}, (secret,))], purpose=OUTCOME)
        assert [item.value for item in await ledger.disclosures(2)] == [secret.value]
        before = contents(tmp_path)
        await ledger.erase(f"buyer:{name}", actor="operator:1")
        written = contents(tmp_path)
    assert written.keys() >= {"ledger.db", "ledger.db-wal", "keys.db"}
    for content in (*before.values(), *written.values()):
        assert secret.value not in content
        assert secret.salt not in content
    key_rows = sqlite3.connect(tmp_path / "keys.db")
    assert key_rows.execute("SELECT count(*) FROM keys").fetchone() == (0,)
    key_rows.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_beginning_is_the_same_log_each_time() -> None:
    assert beginning().genesis.log_id == genesis().log_id

"""The scrub on a real file: every flipped bit of what is stored is found and named with its place."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.ledger.database import database_file
from appliance.ledger.draft import Disclosure, Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.scrub import scrub, scrub_disclosures
from appliance.ledger.verify import BadEntry
from appliance.model.errors import Corrupt
from tests.unit.ledger.shop import draft, genesis, open_ledger, running, sale

SIZE = 700


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([sale(f"k{at}") for at in range(SIZE - 2)], purpose=Purpose.OUTCOME)
    return tmp_path


def check(folder: Path, turn: Callable[[int, int], None] = lambda *_: None) -> int:
    with closing(sqlite3.connect(database_file(folder))) as connection:
        return scrub(connection, log_id=genesis().log_id, turn=turn).size


def change(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database_file(folder))) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def flipped(folder: Path, column: str, table: str, where: str, at: int) -> None:
    with closing(sqlite3.connect(database_file(folder))) as connection:
        (content,) = connection.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
    changed = bytearray(content)
    changed[at % len(changed)] ^= 1 << (at % 8)
    change(folder, f"UPDATE {table} SET {column} = ? WHERE {where}", bytes(changed))


def test_whole_log_is_right_and_progress_is_told(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    assert check(folder, lambda checked, size: told.append((checked, size))) == SIZE
    assert told[:3] == [(256, SIZE), (512, SIZE), (SIZE, SIZE)]


@pytest.mark.parametrize("seq", [0, 1, 255, 256, 400, 698])
@pytest.mark.parametrize("at", [0, 5, 40, 77, -1, -40])
def test_flipped_bit_of_an_entry_is_located(folder: Path, seq: int, at: int) -> None:
    flipped(folder, "entry", "entries", f"seq = {seq}", at)
    with pytest.raises(BadEntry) as caught:
        check(folder)
    # A broken link has two ends; where nobody vouches for the later one it may be named.
    assert caught.value.seq in (seq, seq + 1)


def test_flipped_bit_of_the_last_entry_is_found(folder: Path) -> None:
    flipped(folder, "entry", "entries", f"seq = {SIZE - 1}", 60)
    with pytest.raises(Corrupt, match=r"head_mismatch|entry_malformed"):
        check(folder)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("at", [0, 4_000, 8_191])
def test_flipped_bit_of_a_tile_is_located(folder: Path, number: int, at: int) -> None:
    flipped(folder, "hashes", "tiles", f"level = 0 AND number = {number}", at)
    with pytest.raises(BadEntry, match=rf"tile_mismatch.*tile {number} of level 0") as caught:
        check(folder)
    assert caught.value.seq == 256 * number + 255


def test_flipped_bit_of_a_tile_root_is_located(folder: Path) -> None:
    flipped(folder, "root", "tiles", "level = 0 AND number = 1", 9)
    with pytest.raises(BadEntry, match=r"tile_root_mismatch.*tile 1 of level 0"):
        check(folder)


@pytest.mark.parametrize("column", ["root", "entry_hash"])
def test_flipped_bit_of_the_head_is_found(folder: Path, column: str) -> None:
    flipped(folder, column, "head", "one = 1", 3)
    with pytest.raises(Corrupt, match="head_mismatch"):
        check(folder)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE entries SET kind = 'sbme' WHERE seq = 300", "kind_mismatch"),
        ("DELETE FROM entries WHERE seq = 300", "entry_missing"),
        ("DELETE FROM entries WHERE seq = 699", "entry_missing"),
        ("DELETE FROM tiles WHERE number = 1", "tile_mismatch"),
        ("INSERT INTO tiles VALUES (0, 2, zeroblob(32), zeroblob(8192))", "tile_surplus"),
        ("DELETE FROM head", "head_missing"),
        ("UPDATE head SET size = 699", "head_mismatch"),
    ],
)
def test_row_that_is_not_what_it_was_is_found(folder: Path, statement: str, code: str) -> None:
    change(folder, statement)
    with pytest.raises(Corrupt, match=code):
        check(folder)


def test_whoever_waits_between_pages_may_stop_it(folder: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(checked: int, _size: int) -> None:
        if checked >= 256:
            raise Stopped

    with pytest.raises(Stopped):
        check(folder, stop)


def bits_of_the_log(folder: Path) -> Iterator[int]:
    """Offsets in the file that lie inside the bytes of an entry or a tile, chosen by a fixed seed."""
    content = database_file(folder).read_bytes()
    chosen = random.Random(7)
    with closing(sqlite3.connect(database_file(folder))) as connection:
        blobs = [row[0] for row in connection.execute("SELECT entry FROM entries")]
    for blob in chosen.sample(blobs, 40):
        at = content.find(blob)
        if at >= 0:  # an entry over two pages is not found in one piece
            yield at + chosen.randrange(len(blob))


def test_flipped_bit_of_the_file_itself_is_found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = 0
    for at in bits_of_the_log(folder):
        copy = tmp_path_factory.mktemp("copy")
        shutil.copy(database_file(folder), database_file(copy))
        with database_file(copy).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << (at % 8)]))
        with pytest.raises(Corrupt):
            check(copy)
        found += 1
    assert found > 20


def test_damaged_page_is_a_sentence_with_a_place(folder: Path) -> None:
    with database_file(folder).open("r+b") as file:
        file.seek(4096 * 20)
        file.write(bytes(4096))
    with pytest.raises(Corrupt):
        check(folder)


async def check_values(ledger: Ledger) -> int:
    async def no_rest() -> None:
        await asyncio.sleep(0)

    assert ledger.vault is not None
    return await scrub_disclosures(ledger.read, ledger.vault, no_rest)


def buyer(at: int) -> Draft:
    value = Disclosure(name="buyer", salt=at.to_bytes(16, "big"), value=b"Erika", subject=f"person:{at % 3}")
    return draft("sale", {"amount": 1, "key": f"k{at}", "buyer": value.commitment}, (value,))


async def test_values_beside_the_log_open_to_what_their_entries_commit_to(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([buyer(at) for at in range(600)], purpose=Purpose.OUTCOME)
        assert await check_values(ledger) == 600
        await ledger.erase("person:1", actor="operator:1")
        assert await check_values(ledger) == 400


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE disclosures SET ciphertext = zeroblob(60) WHERE seq = 500", "disclosure_unreadable"),
        ("UPDATE disclosures SET ciphertext = zeroblob(3) WHERE seq = 500", "disclosure_unreadable"),
        ("UPDATE disclosures SET name = 'seller' WHERE seq = 500", "disclosure_unreadable"),
        (
            "UPDATE disclosures SET (key_id, ciphertext) = (SELECT key_id, ciphertext FROM disclosures WHERE seq = 7)"
            " WHERE seq = 500",
            "disclosure_foreign",
        ),
    ],
)
async def test_value_that_is_not_its_entrys_is_located(tmp_path: Path, statement: str, code: str) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([buyer(at) for at in range(600)], purpose=Purpose.OUTCOME)
        change(tmp_path, statement)
        with pytest.raises(Corrupt, match=rf"{code}.*of entry 500"):
            await check_values(ledger)


async def test_column_of_another_type_is_damage_too(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([buyer(at) for at in range(600)], purpose=Purpose.OUTCOME)
        change(tmp_path, "UPDATE disclosures SET ciphertext = CAST(x'ff' || ciphertext AS TEXT) WHERE seq = 500")
        with pytest.raises(Corrupt, match="database_damaged"):
            await check_values(ledger)
        change(tmp_path, "UPDATE entries SET entry = CAST(x'ff' AS TEXT) WHERE seq = 500")
    with pytest.raises(Corrupt, match=r"database_damaged.*near entry 256"):
        await asyncio.to_thread(check, tmp_path)

"""An older release meets the data of a newer one: it opens them, or refuses by name and changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from appliance.crypto import cbor
from appliance.ledger.database import SCHEMA_VERSION, database_file
from appliance.ledger.draft import Purpose, RecordedEntry
from appliance.ledger.projection import Projection
from appliance.model.errors import Corrupt
from tests.unit.ledger.shop import Sales, draft, open_ledger, running, sale


class NewerSales:
    """The same name with another table, which also takes sales that say more."""

    name = "sales"
    schema = (*Sales.schema, "CREATE TABLE sales_more (key TEXT PRIMARY KEY)")
    tables = (*Sales.tables, "sales_more")
    kinds = Sales.kinds

    def apply(self, connection: sqlite3.Connection, entries: Sequence[RecordedEntry]) -> None:
        plain = [entry for entry in entries if b"dmore" not in entry.body]
        if plain:
            Sales().apply(connection, plain)


class StrictSales(Sales):
    """As the box's projections read bodies: an unknown member is refused."""

    def apply(self, connection: sqlite3.Connection, entries: Sequence[RecordedEntry]) -> None:
        for entry in entries:
            body = cbor.decode(entry.body, size_max=65_536)
            if not isinstance(body, dict) or body.keys() - {"amount", "key"}:
                raise ValueError("Object contains unknown field `more`")
        super().apply(connection, entries)


class Tomorrow:
    """A projection that this release does not know."""

    name = "tomorrow"
    schema = ("CREATE TABLE tomorrow (seq INTEGER PRIMARY KEY)",)
    tables = ("tomorrow",)
    kinds = frozenset({"tomorrow"})

    def apply(self, connection: sqlite3.Connection, entries: Sequence[RecordedEntry]) -> None:
        connection.executemany("INSERT INTO tomorrow VALUES (?)", [(entry.seq,) for entry in entries])


async def written(folder: Path, projections: Sequence[Projection], *bodies: tuple[str, object]) -> None:
    async with running(await open_ledger(folder, projections=projections)) as ledger:
        await ledger.append([draft(kind, body) for kind, body in bodies], purpose=Purpose.OUTCOME)


def content(folder: Path) -> list[str]:
    """Everything in the database, as SQL."""
    with closing(sqlite3.connect(database_file(folder))) as connection:
        return list(connection.iterdump())


async def test_a_newer_schema_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    await written(tmp_path, (Sales(),), ("sale", {"amount": 1, "key": "a"}))
    with closing(sqlite3.connect(database_file(tmp_path))) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = content(tmp_path)
    with pytest.raises(Corrupt) as refusal:
        await open_ledger(tmp_path)
    assert refusal.value.code == "ledger_newer"
    assert content(tmp_path) == before


async def test_kinds_and_tables_of_a_newer_release_are_left_alone_and_sales_go_on(tmp_path: Path) -> None:
    await written(tmp_path, (Sales(), Tomorrow()), ("sale", {"amount": 1, "key": "a"}), ("tomorrow", {"any": "thing"}))
    async with running(await open_ledger(tmp_path)) as ledger:
        await ledger.append([sale("b")], purpose=Purpose.OUTCOME)
        keys = await ledger.read(lambda connection: connection.execute("SELECT key FROM sales").fetchall())
    assert keys == [("a",), ("b",)]
    assert any("tomorrow" in line for line in content(tmp_path))


async def test_changed_tables_of_a_newer_release_are_made_anew_where_the_entries_can_be_read(tmp_path: Path) -> None:
    await written(tmp_path, (NewerSales(),), ("sale", {"amount": 1, "key": "a"}))
    async with running(await open_ledger(tmp_path, projections=(StrictSales(),))) as ledger:
        rows = await ledger.read(lambda connection: connection.execute("SELECT key, amount FROM sales").fetchall())
    assert rows == [("a", 1)]


async def test_bodies_that_say_more_are_refused_by_name_and_the_newer_release_opens_them_again(tmp_path: Path) -> None:
    await written(tmp_path, (NewerSales(),), ("sale", {"amount": 1, "key": "a", "more": 2}))
    before = content(tmp_path)
    with pytest.raises(Corrupt) as refusal:
        await open_ledger(tmp_path, projections=(StrictSales(),))
    assert refusal.value.code == "ledger_newer"
    assert content(tmp_path) == before
    await written(tmp_path, (NewerSales(),), ("sale", {"amount": 1, "key": "b", "more": 2}))

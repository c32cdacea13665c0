"""One flipped bit in any row of any table of a real box's database is found, and named with its table."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from appliance.ledger.database import database_file
from appliance.ledger.trust import load_trust
from provisioning.verify.log_check import check_log
from provisioning.verify.progress import Unseen
from provisioning.verify.report import Report
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, new_key, paired_till

# What it takes more than the folder to judge: values sealed under keys of the token (tests/integration/test_scrub.py).
ELSEWHERE = {"disclosures"}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> RunningBox:
    """A box that has sold, given back and lost a terminal; switched off."""
    folder = tmp_path_factory.mktemp("tables")
    with running_box(folder) as running:
        till = paired_till(running, folder, "till-1")
        paired_till(running, folder, "till-2")
        key = new_key()
        for verb, body, of in (("payment", CASH, key), ("refund", {"of": key}, None), ("payment", CASH, None)):
            assert till.ask(verb, body, of or new_key()).status == 200
        running.local.revoke("till-2", "lost")
        running.stop()
    return running


def verdict(box: RunningBox, folder: Path) -> Report:
    return check_log(folder, box.box.trust.read_bytes(), Unseen(), check_tables=True)


def flipped(value: object) -> object:
    """The value with its lowest bit turned, of the same type."""
    match value:
        case bytes():
            return value[:-1] + bytes([value[-1] ^ 1])
        case int():
            return value ^ 1
        case str():
            return value[:-1] + chr(ord(value[-1]) ^ 1)
        case _:
            raise AssertionError(f"no bit in {value!r}")


def columns_with_rows(file: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(file)) as connection:
        tables = [
            row[0]
            for row in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
        ]
        return [
            (table, column[1])
            for table in tables
            if table not in ELSEWHERE
            for column in connection.execute(f"PRAGMA table_info({table})").fetchall()
            if connection.execute(f'SELECT 1 FROM {table} WHERE length("{column[1]}") > 0').fetchone()
        ]


def flip(file: Path, table: str, column: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        (value,) = connection.execute(
            f'SELECT "{column}" FROM {table} WHERE length("{column}") > 0 ORDER BY 1 DESC LIMIT 1'
        ).fetchone()
        connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE "{column}" IS ?', (flipped(value), value))


def test_whole_database_is_as_its_entries_say(box: RunningBox) -> None:
    report = verdict(box, box.box.data)
    assert report.ok, report
    assert report.steps[-1].name == "tables"
    assert load_trust(box.box.trust.read_bytes()).logs


def test_every_column_of_every_table_is_watched(box: RunningBox, tmp_path: Path) -> None:
    places = columns_with_rows(database_file(box.box.data))
    assert {"entries", "head", "payments", "terminals", "epochs", "projections"} <= {table for table, _ in places}
    missed = []
    for number, (table, column) in enumerate(places):
        copy = tmp_path / str(number)
        copy.mkdir()
        shutil.copy(database_file(box.box.data), database_file(copy))
        try:
            flip(database_file(copy), table, column)
        except sqlite3.IntegrityError:
            continue  # the schema itself forbids this bit
        report = verdict(box, copy)
        if report.ok:
            missed.append(f"{table}.{column}")
        elif report.code == "table_mismatch":
            assert f"table {table}," in report.steps[-1].detail, (table, column)
    assert missed == []

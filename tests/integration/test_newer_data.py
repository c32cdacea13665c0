"""A real box whose data a later release wrote: it refuses to start by name, and sells again once it may read them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from appliance.ledger.database import SCHEMA_VERSION, database_file
from tests.integration.box import RunningBox, refused_with, running_box
from tests.integration.till import CASH, paired_till


def test_data_from_the_future_stop_the_start_and_lose_nothing(tmp_path: Path) -> None:
    with running_box(tmp_path) as box:
        till = paired_till(box, tmp_path, "till-1")
        assert till.ask("payment", CASH).status == 200
        box.stop()
        size = box.log_size()
        set_schema(box, SCHEMA_VERSION + 1)
        assert refused_with(box) == "ledger_newer"
        assert box.log_size() == size
        set_schema(box, SCHEMA_VERSION)
        box.start()
        assert till.ask("payment", CASH).status == 200


def set_schema(box: RunningBox, version: int) -> None:
    with closing(sqlite3.connect(database_file(box.box.data))) as connection:
        connection.execute(f"PRAGMA user_version = {version}")

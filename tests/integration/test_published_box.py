"""A real box and a real IPFS node: sales never wait for it, and what it has in the end is the whole log."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from appliance.evidence.cid import dag_cbor_cid
from provisioning.cli import main
from provisioning.sandbox.ipfs_node import IpfsNode
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, Till, paired_till, verified
from tests.ipfs import export, running_node

WAIT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    folder: Path
    box: RunningBox
    till: Till
    node: IpfsNode

    def until(self, is_so: Callable[[], bool]) -> None:
        ends_at = time.monotonic() + WAIT_S
        while not is_so():
            assert time.monotonic() < ends_at, self.box.said()[-3000:]
            time.sleep(0.05)

    def sell(self) -> int:
        """The number of a sale's entry."""
        reply = self.till.ask("payment", CASH)
        assert reply.status == 200
        (entry,) = verified(self.box, reply).entries
        return entry.seq

    def is_published(self, seq: int) -> bool:
        return any(event["end"] > seq for event in self.box.events("publication.kept"))

    def follower(self) -> dict[str, Any]:
        status, body = self.box.public("/integrity")
        assert status == 200
        (found,) = json.loads(body)["followers"]
        assert found["name"] == "publish"
        return dict(found)

    def rows(self, file: str, query: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.box.box.data / file}?mode=ro", uri=True)) as connection:
            return [row[0] for row in connection.execute(query)]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("shop")
    assert main(["audit", "key", str(folder / "auditor")]) == 0
    with running_node(folder / "node") as node:
        settings = (
            f'\n[publication]\napi_base = "{node.api_base}"\nrecipient_path = "{folder / "auditor.pub"}"\n'
            "every_ms = 1000\ndeadline_ms = 2000\n"
        )
        with running_box(folder / "box", settings=settings) as box:
            yield Rig(folder=folder, box=box, till=paired_till(box, folder, "till-1"), node=node)


def test_a_sale_is_published_soon_after(rig: Rig) -> None:
    seq = rig.sell()
    rig.until(lambda: rig.is_published(seq))
    assert 'tillstone_follower_lag_entries{follower="publish"}' in rig.box.public("/metrics")[1].decode()


def test_sales_go_on_while_the_node_is_away_and_are_published_later(rig: Rig) -> None:
    rig.node.kill()
    try:
        seq = rig.sell()
        rig.until(lambda: rig.follower()["failures"] > 0)
        assert rig.sell() > seq
    finally:
        rig.node.start()
    rig.until(lambda: rig.is_published(seq))


def test_a_power_cut_of_the_box_skips_and_doubles_nothing(rig: Rig) -> None:
    for _ in range(3):
        seq = rig.sell()
        rig.box.kill()
        rig.box.start()
    rig.until(lambda: rig.is_published(seq))


def test_an_auditor_with_the_nodes_files_has_the_log_entry_by_entry(rig: Rig) -> None:
    seq = rig.sell()
    rig.until(lambda: rig.is_published(seq))
    rig.box.kill()
    cars = []
    for number, root in enumerate(rig.rows("evidence.db", "SELECT root FROM cars WHERE kept_ms > 0 ORDER BY first")):
        cars.append(rig.folder / f"{number}.car")
        cars[-1].write_bytes(export(rig.node, dag_cbor_cid(root)))
    trust, key, output = rig.box.box.trust, rig.folder / "auditor", rig.folder / "entries.cbor"
    files = [str(car) for car in cars]
    assert main(["audit", "open", *files, "--trust", str(trust), "--key", str(key), "-o", str(output)]) == 0
    log = b"".join(rig.rows("ledger.db", "SELECT entry FROM entries ORDER BY seq"))
    assert log.startswith(output.read_bytes())
    assert output.stat().st_size > len(log) // 2

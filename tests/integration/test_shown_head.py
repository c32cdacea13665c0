"""A terminal's word about a head closes no shop; two signatures of the log do."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from appliance.crypto import jws
from appliance.ledger.shown_head import head_of
from appliance.model.errors import Unavailable
from appliance.runtime.clock import SystemClock
from appliance.wire.requests import PaymentBody
from provisioning.terminal.client import open_terminal
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, Reply, new_key, paired_till, verified

T = TypeVar("T")
NOWHERE = {"size": 10_000, "root": "00" * 32}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RunningBox]:
    with running_box(tmp_path / "shop") as running:
        yield running


def seen(box: RunningBox, sold: Reply) -> dict[str, Any]:
    head = verified(box, sold)
    return {"size": head.size, "root": head.root.hex()}


def shown(box: RunningBox, sold: Reply, /, **changed: str) -> dict[str, Any]:
    """The body of the verb `head` for the head under a sale's receipt."""
    halves = {
        str(key_class): jws.to_base64url(half).decode() for key_class, half in head_of(sold.body["receipt"]).items()
    }
    return {"root": verified(box, sold).root.hex(), **halves, **changed}


def roll_back(box: RunningBox, folder: Path, sell: Callable[[], T]) -> T:
    """The log as it was before three more sales, in the same epoch: nothing on the box can know. The last of them."""
    os.kill(box.pid, signal.SIGSTOP)
    shutil.copytree(box.box.data, folder / "older", ignore=shutil.ignore_patterns("*.sock"))
    os.kill(box.pid, signal.SIGCONT)
    lost = [sell() for _ in range(3)]
    box.kill()
    shutil.rmtree(box.box.data)
    (folder / "older").rename(box.box.data)
    box.start()
    assert box.events("epoch.quarantined") == []
    return lost[-1]


def test_false_head_stops_its_teller_alone(box: RunningBox, tmp_path: Path) -> None:
    liar, honest = paired_till(box, tmp_path, "till-1"), paired_till(box, tmp_path, "till-2")
    size = verified(box, honest.ask("payment", CASH)).size
    for claimed in (NOWHERE, {"size": size, "root": "00" * 32}):
        for verb, body in (("payment", CASH), ("status", {"of": new_key()})):
            refused = liar.ask(verb, body, seen=claimed)
            assert (refused.status, refused.code) == (428, "head_evidence_needed")
    sold = honest.ask("payment", CASH)
    assert sold.status == 200
    assert honest.ask("payment", CASH, seen=seen(box, sold)).status == 200
    assert b'code="head_evidence_needed"' in box.public("/metrics")[1]


def test_evidence_that_does_not_verify_is_refused(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")
    sold = till.ask("payment", CASH)
    classical, post_quantum = (shown(box, sold)[half] for half in ("classical", "post_quantum"))
    spoilt = post_quantum[:-8] + ("A" if post_quantum[-8] != "A" else "B") + post_quantum[-7:]
    for changed in (
        {"root": "00" * 32},
        {"post_quantum": spoilt},
        {"post_quantum": classical},
        {"classical": post_quantum[:1_000]},
        {"classical": ""},
        {"classical": "!"},
    ):
        refused = till.ask("head", shown(box, sold, **changed))
        assert (refused.status, refused.code) == (422, "head_evidence_refused"), changed
    assert till.ask("payment", CASH).status == 200


def test_head_of_this_log_is_known(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")
    sold = till.ask("payment", CASH)
    answered = till.ask("head", shown(box, sold), seen=NOWHERE)  # what is told elsewhere is not compared here
    assert (answered.status, answered.body["size"] >= verified(box, sold).size) == (200, True)
    assert till.ask("payment", CASH).status == 200


def test_lost_head_is_quarantined_by_its_signatures(box: RunningBox, tmp_path: Path) -> None:
    till, other = paired_till(box, tmp_path, "till-1"), paired_till(box, tmp_path, "till-2")
    key = new_key()
    kept = other.ask("payment", CASH, key)
    lost = roll_back(box, tmp_path, lambda: till.ask("payment", CASH))
    assert till.ask("payment", CASH, seen=seen(box, lost)).code == "head_evidence_needed"
    assert other.ask("payment", CASH).status == 200, "nothing is proven yet"
    proven = till.ask("head", shown(box, lost))
    assert (proven.status, proven.code) == (503, "quarantined")
    for refused in (other.ask("payment", CASH), till.ask("status", {"of": key}, seen=seen(box, lost))):
        assert (refused.status, refused.code) == (503, "quarantined")
    assert "Quarantined" in box.local.status()["sentence"]
    assert other.ask("status", {"of": key}).body["state"] == "approved", "what was sold is still told"
    assert other.ask("payment", CASH, key).body["seq"] == kept.body["seq"]


def test_typed_client_shows_the_head_by_itself(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")

    async def sale(deadline_ms: int) -> str:
        async with open_terminal(till.home, clock=SystemClock()) as client:
            body = msgspec.convert(CASH, PaymentBody)
            answer = await client.payment(body, key=client.new_key(), deadline=client.deadline(deadline_ms))
            return answer.state

    def sell(deadline_ms: int) -> str:
        till.home.keep_profile(msgspec.structs.replace(till.home.profile(), url=box.url))
        return asyncio.run(sale(deadline_ms))

    assert sell(20_000) == "approved"
    roll_back(box, tmp_path, lambda: sell(20_000))
    with pytest.raises(Unavailable, match="quarantined"):
        sell(2_000)
    assert "Quarantined" in box.local.status()["sentence"]

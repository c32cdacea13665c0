"""What a till's event stream tells: its own sales, and what becomes of them at another till."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.box import RunningBox, running_box
from tests.integration.till import CARD, CASH, Till, new_key, read_event, verified


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    with running_box(tmp_path_factory.mktemp("shop"), has_cards=True) as running:
        yield running


def test_events_resume_and_show_only_the_own_terminal(till: Till, other_till: Till) -> None:
    start = till.ask("payment", CASH).body["seq"]
    keys = []
    for _ in range(2):
        other_till.ask("payment", CASH)
        keys.append(new_key())
        till.ask("payment", CASH, keys[-1])
    with till.events(after=start) as stream:
        first = read_event(stream)
        second = read_event(stream)
    assert [first["key"], second["key"]] == keys
    with till.events(after=first["seq"]) as stream:
        assert read_event(stream)["key"] == keys[1]
    with till.events(after=start) as stream:
        for key in keys:
            assert read_event(stream)["key"] == key
        live = new_key()
        other_till.ask("payment", CASH)
        till.ask("payment", CASH, live)
        assert read_event(stream)["key"] == live


def test_till_that_sold_sees_what_another_gives_back(box: RunningBox, till: Till, other_till: Till) -> None:
    cash, card = new_key(), new_key()
    till.ask("payment", CASH, cash)
    till.ask("payment", CARD, card)
    start = till.until_final(card).body["seq"]
    other_till.ask("payment", CASH)  # nobody's business but its own
    given_back = other_till.ask("refund", {"of": cash, "reason": "returned elsewhere"})
    (refund,) = [entry for entry in verified(box, given_back).entries if entry.kind == "refund"]
    assert refund.actor == f"terminal:{other_till.name}"
    other_till.ask("reversal", {"of": card})
    other_till.until_final(card)
    last = new_key()
    till.ask("payment", CASH, last)
    told: list[tuple[str, str, str]] = []
    with till.events(after=start) as stream:
        while not told or told[-1][0] != last:
            event = read_event(stream)
            told.append((event["key"], event["verb"], event["state"]))
    assert told[0] == (cash, "refund", "refunded")
    assert {(key, verb) for key, verb, _ in told[1:-1]} == {(card, "reversal")}
    assert told[-2][2] == "reversed"

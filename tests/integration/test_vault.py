"""Tokens at a real box with a real HSM: on no disk, in no log, in memory no longer than a sale; and the command."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.model.errors import Rejected
from provisioning.cli import main
from tests.integration.box import RunningBox, running_box
from tests.integration.test_card_data_scan import memory_of, turn_over
from tests.integration.till import Reply, Till, new_key, paired_till

MARK = "Planted8Tillstone"
CUSTOMER = "Rosalind Elsie Franklin"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[RunningBox, Till]]:
    with running_box(tmp_path / "shop", has_cards=True) as box:
        yield box, paired_till(box, tmp_path, "till-1")


def card(source: str) -> dict[str, object]:
    return {
        "currency": "EUR",
        "amount_minor": 990,
        "tenders": [{"kind": "card", "amount_minor": 990, "source": source}],
    }


def kept_card(box: RunningBox) -> str:
    """A card that a customer left with the provider, as the box is told of it."""
    assert box.twin is not None
    kept = box.twin.control("POST", "kept-cards")
    return f"{kept['customer']}/{kept['id']}"


def pay(till: Till, source: str) -> Reply:
    key = new_key()
    reply = till.ask("payment", card(source), key)
    return till.until_final(key) if reply.status == 202 else reply


def keep(till: Till, token: str, **more: object) -> str:
    reply = till.ask("token", {"act": "keep", "token": token, "purposes": ["sale"], **more})
    assert reply.status == 200, reply.body
    assert token.encode() not in reply.raw
    return str(reply.body["name"])


def test_planted_tokens_are_on_no_disk_in_no_log_and_kept_by_nothing_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0")
    with running_box(tmp_path / "shop", has_cards=True) as box:
        till = paired_till(box, tmp_path, "till-1")
        planted = {
            "sold with": kept_card(box),
            "unknown to the provider": f"pm_1{MARK}Unknown",
            "in the clear": f"pm_1{MARK}Clear",
            "as a name": f"tok_{MARK}",
            "shown": f"pm_1{MARK}Shown",
        }
        assert pay(till, keep(till, planted["sold with"])).body["state"] == "approved"
        assert pay(till, keep(till, planted["unknown to the provider"])).body["code"] == "source_unknown"
        for source in (planted["in the clear"], planted["as a name"]):
            reply = pay(till, source)
            assert reply.status in (409, 422) or reply.body["state"] == "declined"
        shown = till.ask("token", {"act": "show", "name": "tok_" + 26 * "a", "token": planted["shown"]})
        assert shown.body["code"] == "token_misplaced"
        box.local.rotate_vault()
        for _ in range(20):  # the buffers of the provider's connection, as those of the doors
            assert pay(till, "pm_card_visa").body["state"] == "approved"
        turn_over(till)
        needles = {name: token.rpartition("/")[2].encode() for name, token in planted.items()}
        del needles["as a name"]  # a source that is neither reader nor token is the till's own text, as ever
        in_memory = {name for piece in memory_of(box.pid) for name, needle in needles.items() if needle in piece}
        disk = b"".join(path.read_bytes() for path in (tmp_path / "shop" / "box").rglob("*") if path.is_file())
        assert b"token_kept" in disk, "the disk that is read is the box's"
        assert {name for name, needle in needles.items() if needle in disk} == set()
        assert {name for name, needle in needles.items() if needle in box.said().encode()} == set()
        assert in_memory == set()


def test_an_erased_customers_token_sells_no_more(shop: tuple[RunningBox, Till]) -> None:
    box, till = shop
    name = keep(till, kept_card(box), customer=CUSTOMER)
    assert pay(till, name).body["state"] == "approved"
    assert box.local.held_about(f"customer:{CUSTOMER}")["entries"] == 1
    box.local.erase_subject(f"customer:{CUSTOMER}")
    assert pay(till, name).body["code"] == "token_erased"
    assert box.local.vault()["tokens"] == []
    assert all(key["tokens"] == 0 for key in box.local.vault()["keys"])


def test_tokens_are_good_after_a_power_cut_and_after_a_rotation(shop: tuple[RunningBox, Till]) -> None:
    box, till = shop
    name = keep(till, kept_card(box))
    box.power_cycle()
    box.start()
    assert pay(till, name).body["state"] == "approved"
    key = box.local.rotate_vault()
    for _ in range(200):
        if [each["key"] for each in box.local.vault()["keys"]] == [key]:
            break
        till.ask("status", {"of": new_key()})
    assert [(each["key"], each["tokens"]) for each in box.local.vault()["keys"]] == [(key, 1)]
    assert pay(till, name).body["state"] == "approved"


def test_the_command_keeps_lists_rotates_and_forgets(
    shop: tuple[RunningBox, Till], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box, till = shop
    token = kept_card(box)
    where = ["--dir", str(box.box.data)]

    def vault(*words: str) -> str:
        assert main(["vault", *words]) == 0
        return capsys.readouterr().out

    assert "No token is kept." in vault("list", *where)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{token}\n"))
    said = vault("keep", "--for", "sale", "--home", str(till.home.folder))
    (name,) = [word for word in said.split() if word.startswith("tok_")][:1]
    assert f"pay --card --source {name}" in said
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{kept_card(box)}\n"))
    for_hold = vault("keep", "--for", "hold", "--home", str(till.home.folder))
    (held,) = [word for word in for_hold.split() if word.startswith("tok_")][:1]
    assert f"pay --card --later --source {held}" in for_hold
    vault("forget", held, "--reason", "not needed", *where)
    listed = vault("list", *where)
    assert f"{name}  stripe, for sale" in listed
    assert "1 lie under it" in listed
    vault("rotate", *where)
    assert "is forgotten by entry" in vault("forget", name, "--reason", "the customer asked", *where)
    assert json.loads(vault("list", "--json", *where))["tokens"] == []
    assert pay(till, name).body["code"] == "token_forgotten"
    assert main(["vault", "forget", name, "--reason", "again", *where]) == 2
    assert "token_forgotten" in capsys.readouterr().err
    with pytest.raises(Rejected, match="token_name_malformed"):
        box.local.forget_token(token, "by the token itself")
    assert token not in said + listed

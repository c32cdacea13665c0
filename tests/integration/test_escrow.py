"""The power is gone for ever after a card was asked: what a terminal kept tells the owner, and nobody else, of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.cli import main
from provisioning.terminal.escrow import KEPT_MAX, kept_parcels
from provisioning.terminal.home import TerminalHome
from tests.integration.box import START_S_MAX, RunningBox, running_box
from tests.integration.till import CARD, CASH, Till, new_key, paired_till

CUSTOMER = "Chien-Shiung Wu"


@pytest.fixture
def recovery_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    key = tmp_path / "recovery.key"
    assert main(["owner", "recovery-key", str(key)]) == 0
    assert "escrow.recipient_path" in capsys.readouterr().out
    assert main(["owner", "recovery-key", str(key)]) == 2  # never written over
    capsys.readouterr()
    return key


@pytest.fixture
def shop(tmp_path: Path, recovery_key: Path) -> Iterator[tuple[RunningBox, Till]]:
    settings = f'[escrow]\nrecipient_path = "{recovery_key}.pub"\n'
    with running_box(tmp_path / "shop", has_cards=True, settings=settings) as box:
        wait_for_account(box)  # by then a parcel says whose it is
        yield box, paired_till(box, tmp_path, "till-1")


def wait_for_account(box: RunningBox) -> None:
    ends_at = time.monotonic() + START_S_MAX
    while not box.events("provider.account_checked"):
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def keep(till: Till, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["escrow", "keep", "--home", str(till.home.folder)]) == 0
    return capsys.readouterr().out


def lose_an_answer(box: RunningBox, till: Till) -> str:
    assert box.twin is not None
    box.twin.fault("drop_request", times=1_000_000)  # nor can it be read back
    key = new_key()
    reply = till.ask("payment", {**CARD, "customer": CUSTOMER}, key)
    assert reply.body["state"] == "being_checked", reply.body
    return key


def test_what_waited_is_told_by_a_terminal_when_the_box_is_gone(
    shop: tuple[RunningBox, Till], tmp_path: Path, recovery_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box, till = shop
    lost = lose_an_answer(box, till)
    assert "1 payment waits; kept in " in keep(till, capsys)
    trust, home = str(box.box.trust), str(till.home.folder)
    box.kill()  # and that was its end

    files = tmp_path / "files"
    assert main(["escrow", "collect", home, "-o", str(files)]) == 0
    (parcel,) = files.iterdir()
    capsys.readouterr()
    asked = ["--key", str(recovery_key), "--trust", trust]
    assert main(["escrow", "open", str(files), *asked]) == 0
    said = capsys.readouterr().out
    assert f"authorise 9.90 EUR, payment {lost}" in said
    assert "1 operation waits: 9.90 EUR" in said
    assert main(["escrow", "open", home, *asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["payment"] for each in told["waiting"]] == [lost]
    assert (told["refused"], told["left_out"], told["entries_after"]) == ([], 0, 0)
    assert re.fullmatch(r"acct_\w+ test", told["accounts"]["stripe"])
    assert f"Its account at stripe: {told['accounts']['stripe']}" in said

    for name in (CUSTOMER.encode(), lost.encode(), bytes.fromhex(lost.replace("-", ""))):
        assert name not in parcel.read_bytes(), "a terminal learns nothing"
    flipped = bytearray(parcel.read_bytes())
    flipped[-9] ^= 1
    parcel.write_bytes(flipped)
    assert main(["escrow", "open", str(parcel), *asked]) == 1
    assert "escrow_changed" in capsys.readouterr().out
    other = tmp_path / "other.key"
    assert main(["owner", "recovery-key", str(other)]) == 0
    assert main(["escrow", "open", home, "--key", str(other), "--trust", trust]) == 1
    assert "escrow_wrong_key" in capsys.readouterr().out
    assert main(["escrow", "open", home, "--key", f"{recovery_key}.pub", "--trust", trust]) == 2


def test_what_is_not_found_in_another_account_is_told_as_unknown_with_what_to_do(
    shop: tuple[RunningBox, Till], tmp_path: Path, recovery_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box, till = shop
    assert box.twin is not None
    box.twin.fault("drop_reply", times=1_000_000)
    lost = new_key()
    assert till.ask("payment", CARD, lost).body["state"] == "being_checked"
    keep(till, capsys)
    asked = [str(till.home.folder), "--key", str(recovery_key), "--trust", str(box.box.trust)]
    box.kill()
    with running_box(tmp_path / "second", has_cards=True) as second:  # its twin is another account
        wait_for_account(second)
        with (second.box.folder / "trust.json").open("wb") as trust:
            trust.write(box.box.trust.read_bytes())  # the owner's newest one names the lost log
        where = ["--dir", str(second.box.data)]
        capsys.readouterr()
        assert main(["escrow", "ask", *asked, *where]) == 1
        told = capsys.readouterr().out
        assert f"payment {lost}, entry" in told, "it is recorded, and no end"
        assert "NOT KNOWN" in told
        assert "no money moved" not in told
        assert re.search(r"lost box: acct_\w+ test", told)
        assert re.search(r"this box: acct_\w+ test", told)
        assert "next: put the lost box's credentials of stripe into this box's settings" in told


def test_a_stale_parcel_is_named_and_the_newest_counts(
    shop: tuple[RunningBox, Till], tmp_path: Path, recovery_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box, till = shop
    for _ in range(KEPT_MAX + 1):
        lose_an_answer(box, till)
        keep(till, capsys)
    home = TerminalHome(folder=till.home.folder)
    kept = kept_parcels(home)
    assert len(kept) == KEPT_MAX
    asked = ["--key", str(recovery_key), "--trust", str(box.box.trust), "--json"]
    assert main(["escrow", "open", str(home.folder), *asked]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["waiting"]) == KEPT_MAX + 1
    assert [each["code"] for each in told["refused"]] == ["escrow_stale"] * (KEPT_MAX - 1)

    assert main(["pay", "--home", str(home.folder), "--cash", "--amount", "5.00"]) == 0  # a head is seen behind it
    capsys.readouterr()
    assert main(["escrow", "open", str(home.folder), *asked]) == 1
    assert json.loads(capsys.readouterr().out)["entries_after"] > 0
    # A box does not ask about itself: it has a resolver.
    where = ["--dir", str(box.box.data)]
    assert main(["escrow", "ask", str(home.folder), *asked, *where]) == 2
    assert "escrow_own_log" in capsys.readouterr().err


def test_without_the_setting_terminals_keep_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_box(tmp_path / "shop") as box:
        till = paired_till(box, tmp_path, "till-1")
        assert till.ask("payment", CASH).status == 200
        assert main(["escrow", "keep", "--home", str(till.home.folder)]) == 2
        assert "escrow_not_set_up" in capsys.readouterr().err
        assert kept_parcels(TerminalHome(folder=till.home.folder)) == []

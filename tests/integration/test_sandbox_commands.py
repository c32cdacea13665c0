"""Owns the promises of a sandbox about settings of one's own, names, and what its commands say beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config.load import load
from provisioning.cli import main
from provisioning.local_door import LocalDoor
from provisioning.sandbox.background import sandbox_for_a_while
from provisioning.sandbox.control import Control
from provisioning.sandbox.layout import SandboxFolder
from tests.integration.sandbox import require_proven, stopped_sandbox, tillstone
from tests.until import until_now


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped_sandbox(tmp_path_factory.mktemp("settings"))


@pytest.fixture
def running(made: Path) -> Iterator[Path]:
    """The same sandbox, open."""
    with sandbox_for_a_while(SandboxFolder.at(made), "--ports-from", "0"):
        yield made


def test_extra_settings_are_merged_at_each_start_and_their_faults_are_named(made: Path) -> None:
    extra = made / "box" / "extra.toml"
    extra.write_text('[limits]\nno_such_limit = 1\n\n[provider.stripe]\nreaders = ["till-1 tmr_A"]\n')
    refused = tillstone(made, "sandbox", "--quiet", "--ports-from", "0")
    assert refused.returncode == 2
    assert f"{extra}: limits.no_such_limit" in refused.stderr
    extra.write_text('[provider.stripe]\nreaders = ["till-1 tmr_A"]\n')
    with sandbox_for_a_while(SandboxFolder.at(made), "--ports-from", "0"):
        settings = load(made / "box" / "tillstone.toml")
        assert settings.provider.stripe is not None
        assert settings.provider.stripe.readers == ("till-1 tmr_A",)
        assert settings.provider.stripe.api_key_path.is_file(), "what the sandbox says stays beside it"
    extra.unlink()


def test_two_sandboxes_have_two_names(made: Path) -> None:
    assert load(made / "box" / "tillstone.toml").shop.serial != "SANDBOX-1", "a witness keeps one head for each name"


def test_status_of_a_sandbox_whose_box_is_down_sends_nobody_to_start_another(running: Path) -> None:
    control = Control(SandboxFolder.at(running))
    control.stop("appliance")
    said = tillstone(running, "status")
    control.start("appliance")
    assert said.returncode == 2
    assert f"read {running / 'appliance.log'}" in said.stderr


def test_what_a_customer_bought_at_the_command_line_can_be_handed_to_him(running: Path) -> None:
    sold = json.loads(tillstone(running, "pay", "--customer", "c-42", "--cashier", "Ada", "--json").stdout)
    assert sold["state"] == "approved"
    for subject in ("customer:c-42", "cashier:Ada"):
        file = running.parent / f"{subject[:4]}.json"
        assert tillstone(running, "subject", "export", subject, "-o", str(file)).returncode == 0
        assert sold["key"] in file.read_text()


def test_a_card_taken_beside_the_till_is_written_down_as_stated_by_the_cashier(running: Path) -> None:
    words = ("pay", "--tender", "card_stated", "--source", "slip 0042", "--json")
    sold = json.loads(tillstone(running, *words).stdout)
    assert sold["state"] == "approved"
    assert "Card, stated by cashier" in tillstone(running, "receipt", sold["key"]).stdout


def test_a_sale_is_paid_in_parts_refunded_and_given_up_at_the_command_line(running: Path) -> None:
    words = ("pay", "--card", "--amount", "20", "--of-total", "50")
    first = json.loads(tillstone(running, *words, "--json").stdout)
    assert (first["total_minor"], first["sale"]["remaining_minor"]) == (2000, 3000)
    lenient = ("--card", "--partial", "--source", "pm_card_debit_partialAuthorization")
    less = json.loads(tillstone(running, "pay", "--part-of", first["key"], *lenient, "--json").stdout)
    assert (less["total_minor"], less["sale"]["remaining_minor"]) == (2100, 900)
    assert "Part 2 of a sale" in tillstone(running, "receipt", less["key"]).stdout
    assert first["key"] in tillstone(running, "report", "x").stdout
    rest = json.loads(tillstone(running, "pay", "--part-of", first["key"], "--json").stdout)
    assert (rest["total_minor"], rest["sale"]["remaining_minor"]) == (900, 0)
    assert "nothing is open" in tillstone(running, "pay", "--part-of", first["key"]).stderr
    given = json.loads(tillstone(running, "refund", first["key"], "--amount", "30", "--json").stdout)
    assert [each["given_minor"] for each in given] == [900, 2100]
    assert "part of 9.00 EUR of the sale of" in tillstone(running, "ledger", "history", rest["key"]).stdout
    again = json.loads(tillstone(running, *words, "--json").stdout)
    assert tillstone(running, "pay", "--cash", "--part-of", again["key"]).returncode == 0
    back = tillstone(running, "reverse", again["key"]).stdout
    assert "50.00 EUR went back in all. 30.00 EUR of it is cash: the till hands it out, once." in back
    assert f"    {again['key']}  20.00 EUR" in back
    assert json.loads(tillstone(running, "reverse", again["key"], "--json").stdout)["state"] == "reversed"
    assert "sale_closed" in tillstone(running, "pay", "--part-of", again["key"], "--amount", "1").stderr


def test_a_voucher_is_issued_shown_spent_and_checked_at_the_command_line(
    running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    until = ("--until", "2099-12-31")
    issued = json.loads(tillstone(running, "voucher", "issue", "20.00", "--reason", "sorry", *until, "--json").stdout)
    code = issued["code"]
    build = running.parent / "build"
    assert main(["verify", "receipt", str(build / "voucher.cbor"), "--trust", str(build / "trust.json")]) == 0
    verified = capsys.readouterr().out
    assert "of 20.00 EUR issued, good until 2100-01-01" in verified
    assert code not in verified
    sold = json.loads(tillstone(running, "pay", "--tender", "voucher", "--source", code, "--json").stdout)
    assert sold["state"] == "approved"
    assert "open, 7.50 of 20.00 EUR left" in tillstone(running, "voucher", "show", code).stdout
    twice = tillstone(running, "pay", "--tender", "voucher", "--source", code)
    assert "expected at most 7.50 EUR" in twice.stderr
    refused = tillstone(running, "voucher", "void", code)
    assert "voucher_spent" in refused.stderr
    assert code not in (running / "appliance.log").read_text()


def test_keys_are_not_made_anew_beside_a_running_sandbox(running: Path) -> None:
    refused = tillstone(running, "succession", "next-keys")
    assert refused.returncode == 2
    assert "the box runs; nothing was touched" in refused.stderr
    assert json.loads(tillstone(running, "pay", "--json").stdout)["state"] == "approved"
    assert (running / "box" / "tpm" / "socket").is_socket()


def test_cards_are_sold_at_the_pin_pad_whatever_happens_there(running: Path) -> None:
    """One story: a card, its money back, a bank's no, a line that breaks, a card without its bank, another tender."""

    def sell(*words: str) -> tuple[str, str, str]:
        sold = json.loads(tillstone(running, "pay", *(words or ("--pin-pad",)), "--json").stdout)
        require_proven(running, sold)
        return sold["key"], sold["state"], sold.get("code") or ""

    def stand(what: str) -> None:
        assert tillstone(running, "sandbox", "pad", what).returncode == 0

    key, state, _ = sell()
    assert state == "approved"
    assert json.loads(tillstone(running, "refund", key, "--json").stdout)["state"] == "refunded"
    stand("decline")
    assert sell()[1:] == ("declined", "card_declined")
    stand("broken")
    assert sell()[1] == "approved"
    stand("offline")
    assert sell()[1] == "accepted_offline"
    stand("off")
    assert sell("--cash")[1] == "approved"
    stand("approve")
    assert sell()[1] == "approved"
    taken = json.loads((running / "pad" / "money.json").read_text())
    assert [each["kind"] for each in taken] == ["payment", "reversal", "payment", "payment", "payment"]


def test_opened_case_locks_the_sandbox_until_somebody_unlocks(running: Path) -> None:
    assert tillstone(running, "sandbox", "tamper").returncode == 0
    door = LocalDoor(SandboxFolder.at(running).data)
    until_now("the lock", lambda: door.device()["state"] == "locked")
    assert tillstone(running, "pay").returncode != 0
    unlocked = tillstone(running, "device", "unlock", "--reason", "it was me", "--json")
    assert json.loads(unlocked.stdout)["lock"] is None
    assert tillstone(running, "pay").returncode == 0

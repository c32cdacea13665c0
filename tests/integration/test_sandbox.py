"""Owns the promises of `tillstone sandbox`, with a real SoftHSM, swtpm, Stripe twin and appliance."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioning.box import make_box
from provisioning.cli import main
from provisioning.sandbox.background import sandbox_for_a_while
from provisioning.sandbox.layout import SandboxFolder
from tests.integration.sandbox import PROJECT, SECONDS_MAX, require_proven, stopped_sandbox, tillstone

BREAK_SAYS = {
    "byte": "verification names the first bad entry",
    "hsm": "the shop says: Selling. The HSM does not answer; ",
    "tpm": "the shop says: Selling. The TPM does not answer; sales go on",
    "power": "none of them stands there twice",
    "network": "being checked, with its receipt: the card provider's answer was lost; the box finds out by itself",
    "disk": "the shop says: Not selling. Only ",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped_sandbox(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def running(made: Path) -> Iterator[Path]:
    """The same sandbox, open."""
    with sandbox_for_a_while(SandboxFolder.at(made), "--ports-from", "0"):
        yield made


def pids_of(folder: Path) -> list[int]:
    run = SandboxFolder.at(folder).read_run()
    assert run is not None
    return [run.pid, *run.children.values()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pids: list[int]) -> list[int]:
    """The ones that still live after ten seconds."""
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at and any(is_alive(pid) for pid in pids):
        time.sleep(0.02)  # other programs' ends have no event that we could await
    return [pid for pid in pids if is_alive(pid)]


def test_a_cash_sale_has_a_receipt_and_leaves_both_files(running: Path) -> None:
    sold = tillstone(running, "pay", "--json")

    assert sold.returncode == 0, sold.stderr
    answer: dict[str, Any] = json.loads(sold.stdout)
    assert (answer["state"], answer["total_minor"]) == ("approved", 1250)
    assert (running.parent / "build" / "receipt.cbor").stat().st_size > 4_000
    require_proven(running, answer)


def test_a_declined_card_is_exit_code_one(running: Path) -> None:
    sold = tillstone(running, "pay", "--card", "--source", "pm_card_visa_chargeDeclined", "--json")

    assert sold.returncode == 1, sold.stderr
    answer = json.loads(sold.stdout)
    assert answer["state"] == "declined"
    require_proven(running, answer)


def test_customers_at_the_reader_tap_decline_and_walk_away_as_told_and_webhooks_arrive(running: Path) -> None:
    def sell(customer: str) -> tuple[str, str | None]:
        assert tillstone(running, "sandbox", "reader", customer).returncode == 0
        answer = json.loads(tillstone(running, "pay", "--reader", "--json").stdout)
        require_proven(running, answer)
        return answer["state"], answer.get("code")

    assert sell("approve") == ("approved", None)
    assert sell("decline") == ("declined", "insufficient_funds")
    assert sell("offline") == ("declined", "reader_offline")
    run = SandboxFolder.at(running).read_run()
    assert run is not None
    with urllib.request.urlopen(f"{run.public_url}/metrics", timeout=10) as page:
        told = page.read().decode()
    assert 'tillstone_webhooks_total{outcome="hurried",provider="stripe"}' in told
    assert 'outcome="forged"' not in told
    status = json.loads(tillstone(running, "status", "--json").stdout)
    assert "The key opens Stripe's account acct_" in json.dumps(status)


@pytest.mark.parametrize(
    ("tender", "declined", "button", "provider"),
    [
        ("--paypal", "instrument_declined", b"funding=good", "paypal"),
        ("--usdc", "payment_failed", b"paying=good", "coinbase"),
    ],
)
def test_a_payer_agrees_or_has_no_money_or_presses_the_button_on_the_page(
    running: Path, tender: str, declined: str, button: bytes, provider: str
) -> None:
    def sell(payer: str) -> tuple[str, str | None]:
        assert tillstone(running, "sandbox", "payer", payer).returncode == 0
        sold = tillstone(running, "pay", tender, "--json")
        assert "The customer pays at  http://127.0.0.1:" in sold.stderr
        answer = json.loads(sold.stdout)
        require_proven(running, answer)
        return answer["state"], answer.get("code")

    assert sell("agree") == ("approved", None)
    assert sell("decline") == ("declined", declined)
    assert tillstone(running, "sandbox", "payer", "wait").returncode == 0
    command = [sys.executable, "-m", "provisioning.cli", "pay", tender, "--json", "--dir", str(running)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    selling = subprocess.Popen(command, cwd=running.parent, env=environment, stdout=-1, stderr=-1, text=True)
    assert selling.stderr is not None
    page = selling.stderr.readline().split()[-1]
    urllib.request.urlopen(page, data=button, timeout=10).close()
    told, _ = selling.communicate(timeout=SECONDS_MAX)
    assert json.loads(told)["state"] == "approved"
    run = SandboxFolder.at(running).read_run()
    assert run is not None
    with urllib.request.urlopen(f"{run.public_url}/metrics", timeout=10) as metrics:
        counted = metrics.read().decode()
    assert f'provider="{provider}"' in counted
    assert 'outcome="forged"' not in counted


def test_pay_opens_a_sandbox_for_itself_and_leaves_no_process(made: Path) -> None:
    sold = tillstone(made, "pay", "--card")

    assert sold.returncode == 0, sold.stderr
    assert "approved" in sold.stdout
    assert not SandboxFolder.at(made).is_running()


def test_status_and_terminals_are_told_in_words_and_in_json(running: Path) -> None:
    words, program = tillstone(running, "status"), tillstone(running, "status", "--json")
    terminals = tillstone(running, "terminal", "list", "--json")

    assert words.returncode == 0
    assert words.stdout.startswith("✓ Selling.")
    assert json.loads(program.stdout)["level"] == "ok"
    assert {each["terminal"]: each["state"] for each in json.loads(terminals.stdout)}.items() >= {
        ("till-1", "paired"),
        ("till-2", "paired"),
    }


def test_a_live_box_gives_its_log_to_a_stranger(running: Path, tmp_path: Path) -> None:
    sold = json.loads(tillstone(running, "pay", "--json").stdout)
    log, trust = tmp_path / "log.bin", running / "till-1" / "trust.json"

    exported = tillstone(running, "export", "log", "-o", str(log), "--json")

    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["entries"] > sold["seq"]
    assert main(["verify", "log", str(log), "--trust", str(trust)]) == 0
    assert SandboxFolder.at(running).is_running()


def test_an_invited_terminal_gets_a_code_and_a_qr_text(running: Path) -> None:
    invited = tillstone(running, "terminal", "invite", "till-3", "--json")

    invitation = json.loads(invited.stdout)
    assert invitation["qr"].startswith("tillstone:pair?url=https://127.0.0.1:")
    assert len(invitation["code"].replace("-", "")) == 12


def test_an_invitation_shows_a_picture_only_on_a_screen(running: Path) -> None:
    invited = tillstone(running, "terminal", "invite", "till-4")

    assert "read this QR code" not in invited.stdout
    assert "terminal pair till-4 'tillstone:pair?url=" in invited.stdout


def test_a_terminal_of_ones_own_pairs_sells_gives_back_and_ends(running: Path) -> None:
    home = running.parent / "own till"
    invitation = json.loads(tillstone(running, "terminal", "invite", "till-5", "--json").stdout)

    paired = tillstone(running, "terminal", "pair", "till-5", invitation["code"], "--home", str(home), "--json")
    sold = tillstone(running, "pay", "--card", "--home", str(home), "--json")
    key = json.loads(sold.stdout)["key"]
    refunded = tillstone(running, "refund", key, "--reason", "returned", "--home", str(home), "--json")
    again = tillstone(running, "refund", key)
    by_eye = tillstone(running, "terminal", "pair", "till-5", invitation["qr"], "--home", str(home))
    revoked = tillstone(running, "terminal", "revoke", "till-5", "--reason", "test is over")
    refused = tillstone(running, "pay", "--home", str(home))

    assert paired.returncode == 0, paired.stderr
    assert json.loads(paired.stdout)["terminal"] == "till-5"
    assert (refunded.returncode, json.loads(refunded.stdout)["state"]) == (0, "refunded"), refunded.stderr
    assert (again.returncode, "already_undone" in again.stderr) == (2, True)
    assert "the money went back before" in again.stderr
    assert "is a paired terminal already" in by_eye.stderr
    assert revoked.returncode == 0
    assert (refused.returncode, "terminal_revoked" in refused.stderr) == (2, True)


def test_a_sale_for_eyes_shows_the_refund_that_undoes_it(running: Path) -> None:
    sold = tillstone(running, "pay")
    (line,) = (line for line in sold.stdout.splitlines() if " refund " in line)
    key = line.split()[2]

    refunded = tillstone(running, "refund", key)

    assert (refunded.returncode, refunded.stdout.count("refunded")) == (0, 1), refunded.stderr
    verified = main(
        ["verify", "receipt", str(running.parent / "build" / "refund.cbor"), "--trust", f"{running}/till-1/trust.json"]
    )
    assert verified == 0


def test_a_card_sale_goes_back_in_parts_by_amount_and_by_line(running: Path) -> None:
    key = json.loads(tillstone(running, "pay", "--card", "--json").stdout)["key"]

    part = tillstone(running, "refund", key, "--amount", "4.50", "--json")
    line = tillstone(running, "refund", key, "--line", "0:0.4")
    above = tillstone(running, "refund", key, "--amount", "3.01")
    twice = tillstone(running, "refund", key, "--line", "0:0.7")
    rest = tillstone(running, "refund", key, "--json")

    told = json.loads(part.stdout)
    assert (part.returncode, told["state"], told["given_minor"]) == (0, "partly_refunded", 450), part.stderr
    assert "5.00 EUR given back of 12.50 EUR: partly refunded." in line.stdout, line.stderr
    assert (above.returncode, "expected at most 3.00 EUR" in above.stderr) == (2, True)
    assert (twice.returncode, "line_already_refunded" in twice.stderr) == (2, True)
    told = json.loads(rest.stdout)
    assert (told["state"], told["given_minor"], told["refunded_minor"]) == ("refunded", 300, 1250)


def test_a_card_is_held_and_captured_with_a_tip_or_given_up(running: Path) -> None:
    held = tillstone(running, "pay", "--card", "--later", "--amount", "12.50", "--tip", "1.50")
    (key,) = (line.split()[2] for line in held.stdout.splitlines() if " capture " in line)
    other = json.loads(tillstone(running, "pay", "--card", "--later", "--json").stdout)["key"]

    above = tillstone(running, "capture", key, "--amount", "14.01")
    early = tillstone(running, "refund", key)
    taken = tillstone(running, "capture", key, "--amount", "13.50", "--json")
    twice = tillstone(running, "capture", key)
    rest = tillstone(running, "refund", key, "--json")
    given_up = tillstone(running, "reverse", other, "--json")

    assert (held.returncode, "12.50 EUR: authorised." in held.stdout) == (0, True), held.stderr
    assert (above.returncode, "expected at most 14.00 EUR" in above.stderr) == (2, True)
    assert (taken.returncode, json.loads(taken.stdout)["state"]) == (0, "approved"), taken.stderr
    assert ("payment_not_captured" in early.stderr, "payment_not_held" in twice.stderr) == (True, True)
    assert json.loads(rest.stdout)["given_minor"] == 1350
    assert (given_up.returncode, json.loads(given_up.stdout)["state"]) == (0, "reversed"), given_up.stderr


def test_a_card_that_nobody_knows_is_a_sentence(running: Path) -> None:
    sold = tillstone(running, "pay", "--card", "--source", "pm_card_of_nobody")

    assert sold.returncode == 1
    assert "declined: the card provider knows no such card: look at the tender's source (source_unknown)" in sold.stdout


def test_a_second_start_says_that_one_runs_already(running: Path) -> None:
    second = tillstone(running, "sandbox")

    assert second.returncode == 0
    assert "runs already" in second.stdout
    assert str(pids_of(running)[0]) in second.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_sandbox(made: Path, number: signal.Signals) -> None:
    with sandbox_for_a_while(SandboxFolder.at(made), "--ports-from", "0"):
        pids = pids_of(made)
        os.kill(pids[0], number)
        left = wait_gone(pids)

    assert left == []
    assert len(pids) == 8  # supervisor, TPM, three twins, relay, PIN pad, appliance


def test_a_killed_appliance_is_started_again(running: Path) -> None:
    folder = SandboxFolder.at(running)
    run = folder.read_run()
    assert run is not None
    os.kill(run.children["appliance"], signal.SIGKILL)
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at:
        now = folder.read_run()
        if now is not None and now.children.get("appliance", run.children["appliance"]) != run.children["appliance"]:
            break
        time.sleep(0.02)  # the supervisor's pause is real time

    assert tillstone(running, "pay").returncode == 0


def test_nothing_in_the_folder_can_be_read_by_others(running: Path) -> None:
    open_to_others = [
        str(path.relative_to(running))
        for path in running.rglob("*")
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]

    assert open_to_others == []
    assert stat.S_IMODE(running.stat().st_mode) == 0o700


def test_the_pin_is_in_no_file_and_no_secret_in_a_process_list(running: Path) -> None:
    names = {path.name for path in running.rglob("*")}
    command_lines = b" ".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids_of(running))

    assert "hsm-pin" not in names
    assert b"pin" not in command_lines.lower().replace(b"pin_pad", b"")
    for name in ("control-token", "api-key"):
        for provider in ("stripe", "paypal", "coinbase"):
            assert (running / provider / name).read_bytes().strip() not in command_lines


@pytest.mark.parametrize("what", ["byte", "hsm", "tpm", "power", "network", "disk"])
def test_a_break_keeps_every_promise_in_plain_words(running: Path, what: str) -> None:
    told = tillstone(running, "sandbox", "break", what)

    if "needs the right to mount" in told.stderr:
        pytest.skip("optional: the right to mount a small disk (root)")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "Nothing was lost" in told.stdout
    assert BREAK_SAYS[what] in told.stdout
    # No number of a device's manual, no code instead of a sentence, no plural of one.
    assert not re.search(r"\b0x[0-9a-f]+|\b(\w+) \(\1\)|[^0-9.,]1 (entries|sales|promises)\b", told.stdout), told.stdout


def test_a_box_cut_short_before_its_ceremony_ended_is_made_anew(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "box"
    shutil.copytree(made / "box", folder, ignore=shutil.ignore_patterns("*.sock", "data", "socket*", ".lock"))
    before = (folder / "genesis.cbor").read_bytes()
    for name in ("box.json", "genesis.cbor", "trust.json"):
        (folder / name).unlink()

    box = make_box(folder)

    assert (folder / "genesis.cbor").read_bytes() != before
    assert make_box(folder) == box


def test_replay_accounts_for_every_row(tmp_path: Path, made: Path) -> None:
    rows = [
        " customer_id  date number_of_cds  dollar_value",
        " 00001 19970101  1   11.77",
        " 00002 19970112  1   12.00",
    ]
    rows += [" 00002 19970112  5   77.00", " 00003 19970113  1    0.00"]
    purchases = tmp_path / "purchases.txt"
    purchases.write_text("\n".join(rows) + "\n")

    replayed = tillstone(tmp_path / "replay", "replay", str(purchases))

    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "3 accepted + 1 refused = 4 purchases" in replayed.stdout
    assert "2 of 2 day totals" in replayed.stdout
    assert "100.77 USD" in replayed.stdout


def test_replay_tells_programs_the_same(tmp_path: Path, made: Path) -> None:
    purchases = tmp_path / "purchases.txt"
    purchases.write_text("customer date pieces price\n1 19970101 1 11.77\n2 19970102 1 0.00\n")

    replayed = tillstone(tmp_path / "replay", "replay", str(purchases), "--json")

    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    told: dict[str, Any] = json.loads(replayed.stdout)
    account = told["account"]
    assert (told["ok"], account["accepted"], account["refused"]) == (True, 1, {"amount_not_positive": 1})
    assert (account["total_minor"], account["currency"], account["days_equal"]) == (1177, "USD", 1)
    assert all(promise["is_kept"] for promise in account["promises"])
    assert told["speed"]["sales"] == 2

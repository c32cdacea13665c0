"""`tillstone replay`: a file of real purchases through two tills, then the whole log verified and added up.

Owns the wording. Exit code 1 unless every row is accepted or refused by a rule, and every day total equals the file's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from appliance.ledger.trust import load_trust
from appliance.ledger.verify import BadEntry
from provisioning.commands.folder import add_sandbox
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, print_json
from provisioning.sandbox.background import sandbox_for_a_while
from provisioning.sandbox.layout import TILLS, SandboxFolder
from provisioning.sandbox.log_copy import last_seq
from provisioning.sandbox.replay.account import totals_of_log
from provisioning.sandbox.replay.purchases import Purchase, read_purchases
from provisioning.sandbox.replay.result import Account, Speed, account_of, speed_of
from provisioning.sandbox.replay.sending import Handed, hand_over

FILE_DEFAULT: Final = Path("../shared/data/cdnow_purchases.txt.gz")
FOLDER: Final = Path(".sandbox-replay")
CURRENCY: Final = "USD"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`replay [FILE] [--limit] [--json] [--dir]`."""
    parser = subparsers.add_parser(
        "replay", description="Send a file of purchases through two tills in signed batches and check every total."
    )
    parser.add_argument("file", nargs="?", type=Path, default=FILE_DEFAULT, help="default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N purchases")
    add_json(parser)
    add_sandbox(parser, default=FOLDER)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Replay into a sandbox that runs for this alone."""
    console = Console(highlight=False, quiet=arguments.json)
    purchases = read_purchases(arguments.file, arguments.limit)
    console.print(f"{len(purchases):,} purchases in {arguments.file.name}, from {TILLS[0]} and {TILLS[1]}.")
    folder = SandboxFolder.at(arguments.dir)
    with sandbox_for_a_while(folder, "--ports-from", "0", "--currency", CURRENCY):
        before = last_seq(folder.data)
        handed, seconds = _send(folder, purchases, console)
        speed = speed_of(handed, seconds, _resident_mb(folder))
        _tell_speed(console, speed)
        trust = load_trust(folder.till(TILLS[0]).trust_file.read_bytes())
        try:
            with console.status("verifying the whole log"):
                logged, size = totals_of_log(folder.data, trust, after=before)
        except BadEntry as bad:
            return _tell_bad(console, bad, is_json=arguments.json)
    account = account_of(purchases, handed, logged, size, CURRENCY)
    _tell_account(console, account)
    if arguments.json:
        print_json({"ok": account.is_kept, "code": None, "speed": speed, "account": account})
    return DONE if account.is_kept else NO


def _send(folder: SandboxFolder, purchases: Sequence[Purchase], console: Console) -> tuple[list[Handed], float]:
    columns = (TextColumn("selling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("selling", total=len(purchases))
        handed, seconds = hand_over(folder, purchases, lambda count: progress.advance(task, count))
    troubles = [each.trouble for each in handed if each.trouble]
    if troubles:
        raise CannotDo("; ".join(troubles), f"read {folder.appliance_log}")
    return handed, seconds


def _tell_speed(console: Console, speed: Speed) -> None:
    console.print(
        f"  throughput   {speed.sales_per_second:,.0f} sales/s: {speed.sales:,} in {speed.seconds:.1f} s,"
        f" {speed.batches} signed batches\n"
        f"  per batch    p50 {speed.batch_ms.p50:,.0f} ms, p99 {speed.batch_ms.p99:,.0f} ms,"
        " from signing at the till to a checked receipt\n"
        f"  per sale     p50 {speed.sale_ms.p50:.2f} ms, p99 {speed.sale_ms.p99:.2f} ms\n"
        f"  memory       {speed.memory_mb:,.0f} MB at most in the appliance",
        soft_wrap=True,
    )


def _tell_bad(console: Console, bad: BadEntry, *, is_json: bool) -> int:
    console.print(f"[red]✗[/] the log is not whole: {bad}")
    if is_json:
        print_json({"ok": False, "code": bad.code, "detail": bad.detail, "first_bad_entry": bad.seq})
    return NO


def _tell_account(console: Console, account: Account) -> None:
    for promise in account.promises:
        console.print(f"  {'[green]✓[/]' if promise.is_kept else '[red]✗[/]'} {promise.sentence}")
    if account.receipts_late:
        console.print(f"  [yellow]![/] {account.receipts_late:,} accepted sales got their receipt after the answer")


def _resident_mb(folder: SandboxFolder) -> float:
    """The most memory that the appliance ever had resident (proc(5), VmHWM)."""
    found = folder.read_run()
    if found is None or "appliance" not in found.children:
        return 0.0
    for line in Path(f"/proc/{found.children['appliance']}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0

"""`tillstone replay`: a file of real purchases through two tills, then the whole log verified and added up.

Owns the wording and the verdict: exit code 1 unless every row is accepted or refused by a rule, and every day total
equals the file's.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from appliance.ledger.trust import load_trust
from appliance.ledger.verify import BadEntry
from appliance.model.money import Money
from provisioning.commands.outcome import DONE, NO, CannotDo
from provisioning.sandbox.background import sandbox_for_a_while
from provisioning.sandbox.layout import TILLS, SandboxFolder
from provisioning.sandbox.log_copy import last_seq
from provisioning.sandbox.replay.account import totals_of_file, totals_of_log
from provisioning.sandbox.replay.purchases import Purchase, read_purchases
from provisioning.sandbox.replay.sending import Handed, hand_over

FILE_DEFAULT: Final = Path("../shared/data/cdnow_purchases.txt.gz")
FOLDER: Final = Path(".sandbox-replay")
CURRENCY: Final = "USD"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`replay [FILE] [--limit] [--dir]`."""
    parser = subparsers.add_parser(
        "replay", description="Send a file of purchases through two tills in signed batches and check every total."
    )
    parser.add_argument("file", nargs="?", type=Path, default=FILE_DEFAULT, help="default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N purchases")
    parser.add_argument("--dir", type=Path, default=FOLDER, help="a sandbox of its own (default: %(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Replay into a sandbox that runs for this alone."""
    console = Console(highlight=False)
    purchases = read_purchases(arguments.file, arguments.limit)
    console.print(f"{len(purchases):,} purchases in {arguments.file.name}, from {TILLS[0]} and {TILLS[1]}.")
    folder = SandboxFolder.at(arguments.dir)
    with sandbox_for_a_while(folder, "--ports-from", "0", "--currency", CURRENCY):
        before = last_seq(folder.data)
        handed, seconds = _send(folder, purchases, console)
        _tell_speed(console, folder, handed, seconds)
        return _account(console, folder, purchases, handed, before)


def _send(folder: SandboxFolder, purchases: Sequence[Purchase], console: Console) -> tuple[list[Handed], float]:
    columns = (TextColumn("selling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("selling", total=len(purchases))
        handed, seconds = hand_over(folder, purchases, lambda count: progress.advance(task, count))
    troubles = [each.trouble for each in handed if each.trouble]
    if troubles:
        raise CannotDo("; ".join(troubles), f"read {folder.appliance_log}")
    return handed, seconds


def _tell_speed(console: Console, folder: SandboxFolder, handed: Sequence[Handed], seconds: float) -> None:
    batches = [batch for each in handed for batch in each.batches]
    per_batch = sorted(took * 1000 for took, _ in batches)
    per_sale = sorted(took * 1000 / count for took, count in batches)
    sales = sum(count for _, count in batches)
    console.print(
        f"  throughput   {sales / seconds:,.0f} sales/s: {sales:,} in {seconds:.1f} s, {len(batches)} signed batches\n"
        f"  per batch    p50 {_quantile(per_batch, 0.50):,.0f} ms, p99 {_quantile(per_batch, 0.99):,.0f} ms,"
        " from signing at the till to a checked receipt\n"
        f"  per sale     p50 {_quantile(per_sale, 0.50):.2f} ms, p99 {_quantile(per_sale, 0.99):.2f} ms\n"
        f"  memory       {_resident_mb(folder):,.0f} MB at most in the appliance"
    )


def _account(
    console: Console, folder: SandboxFolder, purchases: Sequence[Purchase], handed: Sequence[Handed], before: int
) -> int:
    trust = load_trust(folder.till(TILLS[0]).trust_file.read_bytes())
    with console.status("verifying the whole log"):
        try:
            logged, size = totals_of_log(folder.data, trust, after=before)
        except BadEntry as bad:
            console.print(f"[red]✗[/] the log is not whole: {bad}")
            return NO
    expected = totals_of_file(purchases)
    accepted = sum(each.accepted for each in handed)
    refused = sum((each.refused for each in handed), Counter[str]())
    empty = sum(1 for purchase in purchases if not purchase.amount_minor)
    days = sum(1 for day, minor in expected.minor_by_day.items() if logged.minor_by_day[day] == minor)
    reasons = ", ".join(f"{count} {code}" for code, count in sorted(refused.items())) or "none"
    promises = (
        (f"the whole log verifies: {size:,} entries, each follows from the one before it", True),
        (
            f"{accepted:,} accepted + {refused.total():,} refused = {len(purchases):,} purchases ({reasons})",
            accepted + refused.total() == len(purchases),
        ),
        (f"what was refused are the {empty} rows of 0.00", refused.total() == empty),
        (f"every accepted purchase is in the log exactly once: {logged.count:,}", logged.rows == expected.rows),
        (
            f"{days:,} of {len(expected.minor_by_day):,} day totals equal the file's, to the cent",
            logged.minor_by_day == expected.minor_by_day,
        ),
        (f"together {Money(logged.minor, CURRENCY)}", logged.minor == expected.minor),
    )
    for sentence, is_kept in promises:
        console.print(f"  {'[green]✓[/]' if is_kept else '[red]✗[/]'} {sentence}")
    late = sum(each.without_receipt for each in handed)
    if late:
        console.print(f"  [yellow]![/] {late:,} accepted sales got their receipt after the answer")
    return DONE if all(is_kept for _, is_kept in promises) else NO


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _resident_mb(folder: SandboxFolder) -> float:
    """The most memory that the appliance ever had resident (proc(5), VmHWM)."""
    found = folder.read_run()
    if found is None or "appliance" not in found.children:
        return 0.0
    for line in Path(f"/proc/{found.children['appliance']}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0

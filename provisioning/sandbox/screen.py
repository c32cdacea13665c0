"""What a sandbox shows: steps while it starts, doors with lines to copy, sales as they happen.

Owns the wording. Must never hold logic: it prints what it is told.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from appliance.model.money import Money
from provisioning.sandbox.layout import FOLDER_DEFAULT, SandboxFolder

PROGRAM: Final = ".venv/bin/tillstone"
_STATES: Final = {
    "approved": "[green]approved[/]",
    "authorised": "[green]authorised[/]",
    "accepted_offline": "[yellow]accepted offline[/]",
    "declined_after_handover": "[red]declined after handover[/]",
    "declined": "[red]declined[/]",
    "being_checked": "[yellow]being checked[/]",
    "expired": "[red]expired[/]",
    "not_charged": "[red]not charged[/]",
    "partly_refunded": "[cyan]partly refunded[/]",
    "refunded": "[cyan]refunded[/]",
    "reversed": "[cyan]reversed[/]",
    "cancelled": "[cyan]cancelled[/]",
}


class Screen:
    """The terminal of whoever started the sandbox; `is_quiet` shows trouble alone."""

    def __init__(self, *, is_quiet: bool) -> None:
        self.is_quiet = is_quiet
        self._console = Console(highlight=False, quiet=is_quiet)
        self._status: Status | None = None
        self._step = ""
        self._began = 0.0

    def step(self, name: str) -> None:
        """`name` begins; the step before it is done."""
        self.steps_done()
        self._step, self._began = name, time.monotonic()
        if self._console.is_terminal:
            self._status = self._console.status(escape(name))
            self._status.start()

    def steps_done(self) -> None:
        """The last step is done."""
        self.steps_left()
        if self._step:
            self._console.print(f"  [green]✓[/] {escape(self._step)} [dim]{time.monotonic() - self._began:.1f} s[/]")
            self._step = ""

    def steps_left(self) -> None:
        """Stop moving, whatever became of the step."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def note(self, sentence: str) -> None:
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {escape(sentence)}")

    def opened(
        self,
        folder: SandboxFolder,
        *,
        shop: str,
        pos_url: str,
        public_url: str,
        stripe_url: str,
        paypal_url: str,
        coinbase_url: str,
    ) -> None:
        """Every door, and what to try next."""
        where = "" if folder.path == Path.cwd() / FOLDER_DEFAULT else f" --dir {folder.path}"
        public = f"{public_url}/checkpoint"
        rows = (
            ("terminals", pos_url, f"curl --cacert {folder.box}/tls/authority.pem {pos_url}/v1/info"),
            ("public", public_url, f"curl {public}"),
            ("cards", stripe_url, "a stand-in for Stripe; no money moves anywhere"),
            ("paypal", paypal_url, "a stand-in for PayPal, likewise"),
            ("coinbase", coinbase_url, "a stand-in for Coinbase Business, likewise"),
            ("this box", str(folder.data / "local.sock"), f"{PROGRAM} status{where}"),
        )
        self._console.print(f"\n[bold]{escape(shop)} is open.[/] Everything lies in {escape(str(folder.path))}\n")
        for name, door, attempt in rows:
            self._console.print(
                f"  [bold]{name:<10}[/] {escape(door)}\n             [dim]{escape(attempt)}[/]", soft_wrap=True
            )
        tries = (
            ("sell for cash", f"{PROGRAM} pay --cash --amount 12.50{where}"),
            ("sell by card", f"{PROGRAM} pay --card --amount 40.00{where}"),
            ("at a reader", f"{PROGRAM} pay --reader{where}    (tillstone sandbox reader decline: another customer)"),
            ("at the PIN pad", f"{PROGRAM} pay --pin-pad{where}    (tillstone sandbox pad timeout: nobody comes)"),
            (
                "through PayPal",
                f"{PROGRAM} pay --paypal{where}    (tillstone sandbox payer wait: agree yourself)",
            ),
            ("in USDC", f"{PROGRAM} pay --usdc{where}    (the same payers)"),
            ("give it back", f"{PROGRAM} refund KEY{where}    (a sale prints its key)"),
            ("believe nobody", f"{PROGRAM} verify receipt build/receipt.cbor --trust build/trust.json"),
            ("break something", f"{PROGRAM} sandbox break hsm{where}    (or tpm, network, power, disk, byte)"),
        )
        self._console.print("\nTry in another window:")
        for name, command in tries:
            self._console.print(f"  [bold]{name:<16}[/] {escape(command)}", soft_wrap=True)
        self._console.print("\nSales appear here. Ctrl-C stops the shop and keeps everything.\n")

    def sale(self, sale: dict[str, Any]) -> None:
        """One line of the local door's list of sales."""
        state = _STATES.get(str(sale.get("state")), escape(str(sale.get("state"))))
        # A payment that was cancelled before it came has no sale.
        amount = str(Money(int(sale["total_minor"]), str(sale["currency"]))) if sale["currency"] else "never came"
        who, tender = str(sale["terminal"]), str(sale["tender"])
        seq = int(sale["seq"])
        what = f"{amount:>14}  {escape(tender):<4}  {escape(str(sale['verb'])):<8}  {state}"
        self._console.print(
            f"[dim]{time.strftime('%H:%M:%S')}[/] entry {seq:<6} {escape(who):<8} {what}", soft_wrap=True
        )

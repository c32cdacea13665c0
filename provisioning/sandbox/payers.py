"""Customers who pay by themselves at the twins of PayPal and Coinbase, until somebody says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from provisioning.sandbox.twin_door import TwinDoor
from provisioning.terminal.durable import write_durably

AFTER_MS: Final = 5_000
PAYERS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "agree": {
        "paypal": {"does": "agree", "after_ms": AFTER_MS},
        "coinbase": {"does": "pay", "after_ms": AFTER_MS, "confirm_ms": 1_000},
    },
    "decline": {
        "paypal": {"does": "agree", "funding": "declined", "after_ms": AFTER_MS},
        "coinbase": {"does": "pay", "paying": "fails", "after_ms": AFTER_MS},
    },
    "wait": {"paypal": {"does": "wait"}, "coinbase": {"does": "wait"}},
}
"""What `tillstone sandbox payer` takes, as each twin is told it: `wait` leaves it to whoever opens the page."""


def set_payers(twin: TwinDoor, folder: Path, what: str) -> None:
    """Let customers of the twin in `folder`, which bears its name, do this from now on."""
    twin.control("POST", "customer", PAYERS[what][folder.name])
    write_durably(folder / "payer", what.encode() + b"\n")


def begin_payers(twin: TwinDoor, folder: Path) -> None:
    """They pay by themselves, unless somebody said otherwise before."""
    if not (folder / "payer").exists():
        set_payers(twin, folder, "agree")

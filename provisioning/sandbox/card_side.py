"""The card side of a sandbox: readers with customers who act by themselves, the account, the webhook endpoint.

Owns what the box's settings say of it. A reader stays the same over starts; its customer is who was set last.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from provisioning.sandbox.twin_door import TwinDoor
from provisioning.terminal.durable import write_durably

AFTER_MS: Final = 1_500
CUSTOMERS: Final[dict[str, dict[str, Any]]] = {
    "approve": {"does": "approve", "after_ms": AFTER_MS},
    "decline": {"does": "decline", "after_ms": AFTER_MS},
    "timeout": {"does": "walk_away"},
    "cancel": {"does": "cancel", "after_ms": AFTER_MS},
    "offline": {"does": "approve", "after_ms": AFTER_MS, "reaches": "no"},
    "silent": {"does": "vanish", "after_ms": AFTER_MS},
}
"""What `tillstone sandbox reader` takes: who stands at the readers from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSide:
    """What the settings need to know."""

    account: str
    readers: tuple[str, ...]
    webhook_secret: Path


def make_card_side(twin: TwinDoor, folder: Path, *, tills: tuple[str, ...], relay_url: str) -> CardSide:
    """Make what is missing: a reader for each till, a secret; point webhooks at the relay."""
    secret = folder / "webhook-secret"
    if not secret.exists():
        write_durably(secret, f"whsec_{secrets.token_hex(16)}".encode() + b"\n")
    twin.control("POST", "webhooks", {"url": relay_url, "secret": secret.read_text().strip()})
    for till in tills[len(twin.readers()) :]:
        made = twin.api("POST", "terminal/readers", registration_code="simulated-wpe", label=till)
        twin.control("POST", f"readers/{made['id']}", CUSTOMERS["approve"])
    lines = tuple(f"{till} {reader}" for till, reader in zip(tills, twin.readers(), strict=True))
    return CardSide(account=str(twin.api("GET", "account")["id"]), readers=lines, webhook_secret=secret)


def set_customers(twin: TwinDoor, what: str) -> None:
    """Put this customer at every reader."""
    for reader in twin.readers():
        twin.control("POST", f"readers/{reader}", CUSTOMERS[what])

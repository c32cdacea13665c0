"""The PayPal side of a sandbox: its account, its webhook, and payers who agree by themselves.

Owns what the box's settings say of it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from provisioning.sandbox.payers import begin_payers
from provisioning.sandbox.paypal_twin_events import CERTIFICATE_NAME
from provisioning.sandbox.twin_door import TwinDoor
from provisioning.settings_file import PayPalAccount
from provisioning.terminal.durable import write_durably

WEBHOOK_ID: Final = "1SANDBOX23456789W"


def client_id(folder: Path) -> str:
    """Of this twin alone, and the same at every start: two sandboxes have two accounts, and must not look like one."""
    return f"sandbox-{hashlib.sha256((folder / 'api-key').read_bytes()).hexdigest()[:16]}"


def make_paypal_side(
    twin: TwinDoor, folder: Path, *, api_base: str, relay_url: str, webhook_port: int
) -> PayPalAccount:
    """Point webhooks at the relay."""
    begin_payers(twin, folder)
    twin.control("POST", "webhooks", {"url": relay_url, "webhook_id": WEBHOOK_ID})
    roots = folder / "roots.pem"
    write_durably(roots, str(twin.control("GET", "root")["root"]).encode())
    return PayPalAccount(
        api_base=api_base,
        client_id=client_id(folder),
        client_secret=folder / "api-key",
        webhook_id=WEBHOOK_ID,
        webhook_port=webhook_port,
        certificate_name=CERTIFICATE_NAME,
        roots=roots,
    )

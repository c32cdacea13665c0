"""The Coinbase side of a sandbox: its key, its webhook, and customers who pay by themselves.

Owns what the box's settings say of it.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from pathlib import Path

from appliance.crypto.signing_key import ed25519_from_seed
from provisioning.sandbox.payers import begin_payers
from provisioning.sandbox.twin_door import TwinDoor
from provisioning.settings_file import CoinbaseAccount
from provisioning.terminal.durable import write_durably


def make_coinbase_side(
    twin: TwinDoor, folder: Path, *, api_base: str, relay_url: str, webhook_port: int
) -> CoinbaseAccount:
    """Make the box's key known to the twin, and point webhooks at the relay."""
    key, secret = folder / "key", folder / "webhook-secret"
    if not key.exists():
        seed = secrets.token_bytes(32)
        write_durably(key, base64.b64encode(seed + ed25519_from_seed(seed).public_key[-32:]) + b"\n")
    if not secret.exists():
        write_durably(secret, secrets.token_hex(16).encode() + b"\n")
    public_key = ed25519_from_seed(base64.b64decode(key.read_bytes())[:32]).public_key
    # Of this twin alone, and the same at every start: two sandboxes have two accounts, and must not look like one.
    name = f"organizations/of-the-sandbox/apiKeys/{hashlib.sha256(public_key).hexdigest()[:16]}"
    twin.control("POST", "key", {"name": name, "public_key": base64.b64encode(public_key).decode()})
    twin.control("POST", "refunds", {"after_ms": 1_000})
    twin.control("POST", "webhooks", {"url": relay_url, "secret": secret.read_text().strip()})
    begin_payers(twin, folder)
    return CoinbaseAccount(api_base=api_base, key_name=name, key=key, webhook_secret=secret, webhook_port=webhook_port)

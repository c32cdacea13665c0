"""Settings of Coinbase Business: whose account, how long customers may take, and the door of its webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from appliance.config.section import SECRET_FILE, CustomerWait, DoorPort, PlainHost, Section, Url
from appliance.model.limits import MINUTE_MS


class CoinbaseDelivery(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a relay brings Coinbase's webhooks; they only make the box look sooner."""

    secret_path: Annotated[
        Path,
        Meta(
            description="File with the subscription's secret, mode 0600.",
            extra=SECRET_FILE,
            examples=["coinbase-webhook-secret"],
        ),
    ]
    host: PlainHost = "127.0.0.1"
    port: DoorPort = 9083


class Coinbase(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tender `usdc`: the customer pays USDC at an address of Coinbase's."""

    api_base: Annotated[
        Url, Meta(description="Address of the API; Coinbase's own test place is the same with /sandbox behind it.")
    ] = "https://business.coinbase.com"
    key_name: Annotated[
        str,
        Meta(
            pattern=r"\A[0-9A-Za-z/_-]{8,200}\Z",
            description="Id of the CDP API key.",
            examples=[
                "organizations/2d6b3f6e-4d4d-4b7e-9d0e-0c6d1b1f5a11/apiKeys/5f0c6d0e-7a1b-4c3d-8e9f-1a2b3c4d5e6f"
            ],
        ),
    ]
    key_path: Annotated[
        Path,
        Meta(
            description="File with the key's secret, mode 0600: PEM of an ECDSA key, or Ed25519 in Base64.",
            extra=SECRET_FILE,
            examples=["coinbase-key"],
        ),
    ]
    customer_wait_ms: Annotated[
        CustomerWait, Meta(description="How long a customer may take to pay; then the checkout is withdrawn.")
    ] = 5 * MINUTE_MS
    webhooks: Annotated[
        CoinbaseDelivery | None, Meta(description="The relay's door; without it polling alone finds out.")
    ] = None

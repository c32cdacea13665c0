"""Settings of the card provider: whose account, which card reader is whose, and the door of its webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from appliance.config.section import SECRET_FILE, DoorPort, PlainHost, Section, Url
from appliance.model.limits import MINUTE_MS


class Webhooks(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a relay brings the provider's webhooks; they only make the box look sooner."""

    secret_path: Annotated[
        Path,
        Meta(
            description="File with the endpoint's signing secret (whsec_...), mode 0600.",
            extra=SECRET_FILE,
            examples=["stripe-webhook-secret"],
        ),
    ]
    host: PlainHost = "127.0.0.1"
    port: DoorPort = 9081


class Stripe(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cards through Stripe."""

    api_base: Annotated[Url, Meta(description="Address of the API; a sandbox puts its twin here.")] = (
        "https://api.stripe.com"
    )
    api_key_path: Annotated[
        Path,
        Meta(description="File with the restricted secret key, mode 0600.", extra=SECRET_FILE, examples=["stripe-key"]),
    ]
    payment_source_default: Annotated[
        str,
        Meta(
            pattern=r"\A[0-9A-Za-z_]{0,64}\Z",
            description="Payment method used when a terminal names none, such as pm_card_visa; sandboxes only.",
        ),
    ] = ""
    account: Annotated[
        str,
        Meta(
            pattern=r"\A(?:acct_[0-9A-Za-z]{1,64})?\Z",
            description="The account that the key must belong to; without it no key is checked.",
            examples=["acct_1032D82eZvKYlo2C"],
        ),
    ] = ""
    readers: Annotated[
        tuple[Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,31} tmr_[0-9A-Za-z]{1,64}\Z")], ...],
        Meta(
            max_length=256,
            description="Which card reader belongs to which till, as 'till-1 tmr_...'. A till's card tender without a"
            " source goes to its reader, unless payment_source_default is set.",
        ),
    ] = ()
    reader_wait_ms: Annotated[
        int,
        Meta(
            ge=5_000,
            le=10 * MINUTE_MS,
            description="How long a customer may take to show a card; then the payment is withdrawn and declined.",
        ),
    ] = MINUTE_MS
    webhooks: Annotated[Webhooks | None, Meta(description="The relay's door; without it polling alone finds out.")] = (
        None
    )

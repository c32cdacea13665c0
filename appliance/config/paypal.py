"""Settings of PayPal: whose account, how long customers may take, and the door of its webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from appliance.config.section import SECRET_FILE, CustomerWait, DoorPort, PlainHost, Section, Url
from appliance.model.limits import MINUTE_MS


class PayPalDelivery(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a relay brings PayPal's webhooks; they only make the box look sooner."""

    webhook_id: Annotated[
        str,
        Meta(
            pattern=r"\A[0-9A-Za-z]{1,50}\Z",
            description="The webhook's id, as PayPal's dashboard shows it.",
            examples=["1AB23456CD789012E"],
        ),
    ]
    host: PlainHost = "127.0.0.1"
    port: DoorPort = 9082
    certificate_base: Annotated[Url, Meta(description="The one place from which signing certificates are fetched.")] = (
        "https://api.paypal.com"
    )
    certificate_name: Annotated[
        str, Meta(pattern=r"\A[0-9a-z.-]{1,253}\Z", description="Whom a signing certificate must be made out to.")
    ] = "messageverificationcerts.paypal.com"
    roots_path: Annotated[Path, Meta(description="PEM file of the roots at which its chain may end.")] = Path(
        "/etc/ssl/certs/ca-certificates.crt"
    )


class PayPal(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tender `paypal`: the customer agrees at PayPal, then the box takes the money."""

    api_base: Annotated[Url, Meta(description="Address of the API; a sandbox puts its twin here.")] = (
        "https://api-m.paypal.com"
    )
    client_id: Annotated[
        str,
        Meta(
            pattern=r"\A[0-9A-Za-z_-]{8,200}\Z",
            description="The app's client id at PayPal.",
            examples=["AeA1QIZXiflr1_-r0U2UbWTziOWX1GRQer5jkUq4ZfWT5qwb6qQRPq7jDtv57TL4POEEezGLdutcxnkJ"],
        ),
    ]
    client_secret_path: Annotated[
        Path,
        Meta(description="File with the app's secret, mode 0600.", extra=SECRET_FILE, examples=["paypal-secret"]),
    ]
    customer_wait_ms: Annotated[
        CustomerWait,
        Meta(description="How long a customer may take to agree; then nothing is taken and the payment is declined."),
    ] = 3 * MINUTE_MS
    webhooks: Annotated[
        PayPalDelivery | None, Meta(description="The relay's door; without it polling alone finds out.")
    ] = None

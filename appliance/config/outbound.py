"""Settings of the way out: what stands between the shop's network and the internet."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.config.section import Section


class Outbound(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the box reaches providers, witnesses and calendars."""

    proxy: Annotated[
        Annotated[str, Meta(pattern=r"\Ahttp://(?:[0-9A-Za-z.-]{1,253}|\[[0-9A-Fa-f:]{2,45}\]):[0-9]{1,5}\Z")] | None,
        Meta(
            description="HTTP proxy through which HTTPS leaves (CONNECT: it sees names, not contents). What is plain"
            " HTTP lies on this machine or the LAN and is asked directly.",
            examples=["http://192.0.2.8:3128"],
        ),
    ] = None

    def proxy_for(self, address: str) -> str | None:
        """The proxy for `address`; None: ask directly."""
        return self.proxy if address.startswith("https://") else None

"""Settings of what is handed to customers on paper."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.config.section import Section


class Slips(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a customer gets in the hand."""

    page_url: Annotated[
        str,
        Meta(
            pattern=r"\A(?:https://[^\s?#@]{1,120}/)?\Z",
            description="Where customers check a slip: address of the page that `tillstone page` wrote, ending"
            " in a slash. It stands in the QR code of each slip; without it slips have none.",
            examples=["https://corner-shop.example/check/"],
        ),
    ] = ""

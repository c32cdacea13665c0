"""Settings of cards that are accepted without their bank: how much money may hang on banks that were not asked.

The defaults are meant to let a shop sell through an outage of an afternoon and to lose no more than it can bear: a card
that is stolen or empty is what goes through offline. Whether a card is taken at all is its own and the acquirer's rule.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.config.section import Section
from appliance.model.limits import AMOUNT_MINOR_MAX

_MONEY_MAX = 1_000 * AMOUNT_MINOR_MAX


class Offline(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of what may be accepted offline, reserved before a card is read; 0 in any of them: never offline."""

    sale_minor_max: Annotated[
        int,
        Meta(
            ge=0, le=AMOUNT_MINOR_MAX, description="One card, in minor units; what is above it goes to its bank or not."
        ),
    ] = 5_000
    terminal_minor_max: Annotated[
        int, Meta(ge=0, le=_MONEY_MAX, description="All that one till accepted and no bank has confirmed.")
    ] = 50_000
    box_minor_max: Annotated[int, Meta(ge=0, le=_MONEY_MAX, description="The same of all tills.")] = 100_000
    age_hours_max: Annotated[
        int,
        Meta(
            ge=0,
            le=720,
            description="Once the oldest has waited this long, nothing more is accepted; banks refuse what comes late.",
        ),
    ] = 24

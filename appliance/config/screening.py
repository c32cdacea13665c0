"""Settings of screening: where each rule begins to speak, and what happens then.

`off` does not look, `watch` writes into the payment's entry, `refuse` lets no money move. The defaults only watch: what
is usual differs from shop to shop, and a box that nobody adjusted turns no customer away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from appliance.config.section import Section
from appliance.model.limits import AMOUNT_MINOR_MAX

_MODE = r"\A(?:off|watch|refuse)\Z"
_TIME = r"\A(?:[01][0-9]|2[0-3]):[0-5][0-9]\Z"


class Screening(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules that look at a sale or refund before money moves; `tillstone screen set` changes them, in the log."""

    velocity_mode: Annotated[str, Meta(pattern=_MODE, description="Too many sales at one terminal in a window.")] = (
        "watch"
    )
    velocity_sales_max: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Sales in the window; a busy till makes one in twenty seconds."),
    ] = 60
    velocity_window_minutes: Annotated[int, Meta(ge=1, le=60, description="The window.")] = 10
    sale_ceiling_mode: Annotated[str, Meta(pattern=_MODE, description="One sale that is too large.")] = "watch"
    sale_ceiling_minor: Annotated[
        int, Meta(ge=1, le=AMOUNT_MINOR_MAX, description="Largest total of one sale, in minor units.")
    ] = 200_000
    hour_ceiling_mode: Annotated[
        str, Meta(pattern=_MODE, description="Too much money at one terminal in the last hour.")
    ] = "watch"
    hour_ceiling_minor: Annotated[
        int, Meta(ge=1, le=1000 * AMOUNT_MINOR_MAX, description="The hour's largest total, in minor units.")
    ] = 1_000_000
    hours_mode: Annotated[
        str, Meta(pattern=_MODE, description="A sale or refund while terminals should be asleep.")
    ] = "watch"
    hours_open: Annotated[str, Meta(pattern=_TIME, description="From then on they work, on the shop's clock.")] = (
        "00:00"
    )
    hours_close: Annotated[
        str,
        Meta(
            pattern=_TIME,
            description="Until then, which may be past midnight; the same as hours_open for always.",
        ),
    ] = "00:00"
    refund_velocity_mode: Annotated[
        str,
        Meta(
            pattern=_MODE,
            description="Too many refunds at one terminal: what staff steals goes out as refunds more often than not.",
        ),
    ] = "watch"
    refund_velocity_max: Annotated[int, Meta(ge=1, le=10_000, description="Refunds in the window.")] = 10
    refund_velocity_window_minutes: Annotated[
        int, Meta(ge=15, le=1440, description="The window, counted in quarters of an hour.")
    ] = 240
    offline_exposure_mode: Annotated[
        str,
        Meta(
            pattern=_MODE,
            description="Another card at a PIN pad while much hangs on banks already; [offline] is the limit itself.",
        ),
    ] = "watch"
    offline_exposure_minor: Annotated[
        int,
        Meta(
            ge=1,
            le=1000 * AMOUNT_MINOR_MAX,
            description="Accepted offline in the whole box and not confirmed, with this card, in minor units.",
        ),
    ] = 50_000
    model_mode: Annotated[
        str, Meta(pattern=_MODE, description="What a trained model thinks; trained on simulated sales, so only watch.")
    ] = "watch"
    model_score_permille: Annotated[int, Meta(ge=1, le=1000, description="From this score on it speaks.")] = 500
    model_path: Annotated[
        Path | None,
        Meta(description="A model of your own (make train-screen) in place of the shipped.", examples=["m.json"]),
    ] = None

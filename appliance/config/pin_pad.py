"""Settings of PIN pads that speak ZVT: where each is, whose it is, and what it may do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from appliance.config.section import SECRET_FILE, Section
from appliance.model.limits import MINUTE_MS

CURRENCY_NUMBERS: Final = {
    "CHF": 756,
    "CZK": 203,
    "DKK": 208,
    "EUR": 978,
    "GBP": 826,
    "HUF": 348,
    "NOK": 578,
    "PLN": 985,
    "RON": 946,
    "SEK": 752,
    "USD": 840,
}
"""ISO 4217 numbers, by which a PIN pad knows currencies."""


class PinPads(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tender `pin_pad`: a card at a device on the counter, which the box drives by ZVT."""

    pads: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    pattern=r"\A[a-z0-9][a-z0-9-]{0,31} "
                    r"(?:serial:/dev/[0-9A-Za-z/_.-]{1,100}|tcp:[0-9A-Za-z._-]{1,253}:[0-9]{1,5})\Z"
                ),
            ],
            ...,
        ],
        Meta(
            min_length=1,
            max_length=32,
            description="Each PIN pad by a name of yours and its place: 'counter tcp:192.168.1.50:20007' or"
            " 'counter serial:/dev/ttyUSB0'. The log keeps the name: do not give it to another PIN pad.",
            examples=[("counter tcp:192.168.1.50:20007",)],
        ),
    ]
    tills: Annotated[
        tuple[Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,31} [a-z0-9][a-z0-9-]{0,31}\Z")], ...],
        Meta(
            min_length=1,
            max_length=256,
            description="Which PIN pad belongs to which till, as 'till-1 counter'; several tills may share one.",
            examples=[("till-1 counter",)],
        ),
    ]
    password_path: Annotated[
        Path,
        Meta(
            description="File with the PIN pads' password for tills, six digits (ZVT chapter 1.2), mode 0600.",
            extra=SECRET_FILE,
            examples=["pin-pad-password"],
        ),
    ]
    baud: Annotated[int, Meta(ge=1_200, le=921_600, description="Speed of serial lines.")] = 9_600
    answer_ms: Annotated[
        int, Meta(ge=100, le=5_000, description="Without an answer for this long a PIN pad is silent.")
    ] = 3_000
    customer_wait_ms: Annotated[
        int,
        Meta(
            ge=5_000,
            le=10 * MINUTE_MS,
            description="How long a customer may take; then the PIN pad is told to stop.",
        ),
    ] = 90_000
    accepts_offline: Annotated[
        bool,
        Meta(
            description="Whether the acquirer lets these PIN pads take cards without the bank. The limits of [offline]"
            " say how much; without this it is undone at once where a PIN pad does it all the same."
        ),
    ] = False
    is_used_by_hand: Annotated[
        bool,
        Meta(
            description="Whether payments are also begun at the PIN pad itself. Then one whose line broke may stay"
            " being checked: nobody knows whose the last one is."
        ),
    ] = False

    def places(self) -> dict[str, str]:
        """The address of each PIN pad by its name, as `drivers/serial/line.py` takes it."""
        return {name: _address(place) for name, place in _pairs(self.pads)}

    def bound(self) -> dict[str, str]:
        """The PIN pad of each till."""
        return dict(_pairs(self.tills))

    def faults(self, currency: str) -> Iterator[tuple[str, str]]:
        """(setting, reason) for whatever does not fit together."""
        names = Counter(name for name, _ in _pairs(self.pads))
        tills = Counter(name for name, _ in _pairs(self.tills))
        if any(count > 1 for count in names.values()):
            yield "pads", "names a PIN pad twice"
        if any(count > 1 for count in tills.values()):
            yield "tills", "binds a till twice"
        if any(pad not in names for _, pad in _pairs(self.tills)):
            yield "tills", "binds a till to a PIN pad that pads does not name"
        if currency not in CURRENCY_NUMBERS:
            yield "pads", f"take {', '.join(CURRENCY_NUMBERS)}; the shop sells in another currency"


def _pairs(lines: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def _address(place: str) -> str:
    kind, _, rest = place.partition(":")
    return rest if kind == "serial" else f"socket://{rest}"

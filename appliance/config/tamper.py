"""Settings of the contact that says whether somebody opened the case."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.config.section import Section


class Tamper(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A contact in the case; without this table an opening goes unseen."""

    line: Annotated[
        str,
        Meta(
            pattern=r"\A(?:file:/[^\x00-\x1f]{1,200}|gpio:/dev/gpiochip[0-9]{1,3}:[0-9]{1,4}(?::active_low)?)\Z",
            description="file: a file of one digit, such as hwmon's intrusion0_alarm. gpio: chip and line, which is"
            " active when the case is open.",
            examples=["file:/sys/class/hwmon/hwmon0/intrusion0_alarm"],
        ),
    ]
    debounce_ms: Annotated[
        int, Meta(ge=1, le=1_000, description="Shorter openings are a contact that bounces, not a person.")
    ] = 20
    zeroise: Annotated[
        bool,
        Meta(
            description="Destroy all keys when the case is opened, for good: the box never sells again and its log goes"
            " on as a new generation on another box. false: it locks until an operator unlocks it."
        ),
    ] = False

"""The owner's word on thresholds: what holds now, and changes, each an entry before it holds."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.payment.screening.judge import Screener
from appliance.payment.screening.records import find_changes
from appliance.payment.screening.thresholds import SETTABLE, changed
from appliance.ports.clock import Clock
from appliance.wire import entries

ACTOR = "operator"
"""Whoever opened the local door."""


class Thresholds:
    """Shows and changes them."""

    def __init__(self, *, screener: Screener, ledger: Ledger, clock: Clock) -> None:
        self._screener = screener
        self._ledger = ledger
        self._clock = clock

    async def show(self) -> list[dict[str, object]]:
        """Each threshold: its value, and whether the log says so, not the settings file."""
        changes = await self._ledger.read(find_changes)
        holding = self._screener.thresholds
        return [{"name": name, "value": getattr(holding, name), "is_changed": name in changes} for name in SETTABLE]

    async def change(self, changes: Mapping[str, int | str]) -> int:
        """Set some; returns the entry's seq. They hold from the next request on, and after every start.

        Raises:
            Rejected: `threshold_unknown`, `threshold_invalid`: nothing was changed.
            Unavailable, OutcomeUnknown: as `Ledger.append`.
        """
        changed(self._screener.thresholds, changes)
        ordered = dict(sorted(changes.items(), key=lambda each: (len(each[0]), each[0])))
        body = entries.ScreeningChangedEntry(changed=ordered)
        draft = Draft(
            kind=entries.SCREENING_CHANGED,
            actor=ACTOR,
            time_ms=self._clock.now_ms(),
            body=cbor.encode(msgspec.to_builtins(body)),
        )
        (entry,) = await self._ledger.append([draft], purpose=Purpose.OUTCOME)
        await self._screener.load_thresholds()
        return entry.seq

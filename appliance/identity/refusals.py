"""Refusals of requests whose signer is known: one summary entry per terminal and minute.

So the log shows a till that is being misused, and a misused till cannot fill the log.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.model.limits import MINUTE_MS
from appliance.ports.clock import Clock
from appliance.wire import entries

_BEFORE_SIGNATURE: Final = frozenset({"terminal_unknown", "terminal_revoked", "signature_wrong", "terminal_mismatch"})
_TERMINALS_MAX: Final = 256
_CODES_MAX: Final = 32


class Refusals:
    """Counts between two summaries, bounded: what a stranger can cause is never remembered here."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def count(self, terminal: str, code: str) -> None:
        """Remember one refusal, unless it was refused before its signature was believed."""
        if code in _BEFORE_SIGNATURE or (terminal not in self._counts and len(self._counts) >= _TERMINALS_MAX):
            return
        codes = self._counts[terminal]
        codes[code if code in codes or len(codes) < _CODES_MAX else "other"] += 1

    async def run(self) -> None:
        """Write the summaries of each minute."""
        while True:
            await self._clock.sleep(MINUTE_MS)
            await self.flush()

    async def flush(self) -> None:
        """Write what was counted; it is kept when the ledger cannot take it now."""
        if not self._counts:
            return
        written, self._counts = self._counts, defaultdict(Counter)  # what comes meanwhile is for the next summary
        drafts = [self._draft(terminal, codes) for terminal, codes in sorted(written.items())]
        try:
            await self._ledger.append(drafts, purpose=Purpose.OUTCOME)
        except (Unavailable, OutcomeUnknown):
            for terminal, codes in self._counts.items():
                written[terminal].update(codes)
            self._counts = written

    def _draft(self, terminal: str, codes: Counter[str]) -> Draft:
        body = entries.RefusalsEntry(terminal=terminal, codes=dict(codes))
        return Draft(
            kind=entries.REFUSALS,
            actor="box",
            time_ms=self._clock.now_ms(),
            body=cbor.encode(msgspec.to_builtins(body)),
        )

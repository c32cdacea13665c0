"""What auditors read: one summary entry per credential and minute.

So the log says who saw which part of it, and a busy auditor cannot fill it. A power cut loses at most the last minute's
summary; an orderly stop writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from appliance.crypto import cbor
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.model.limits import MINUTE_MS
from appliance.ports.clock import Clock
from appliance.wire import entries


@dataclass(slots=True)
class _Reads:
    first: int
    last: int
    entries: int = 0
    requests: int = 0

    def add(self, other: _Reads) -> None:
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.entries += other.entries
        self.requests += other.requests


class AuditorReads:
    """Counts between two summaries; as many as there are valid credentials, no more."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._counts: dict[str, _Reads] = {}

    def count(self, credential: str, seqs: range | tuple[int, ...]) -> None:
        """Remember that the entries `seqs` (rising) were shown; nothing when there were none."""
        if not seqs:
            return
        reads = self._counts.setdefault(credential, _Reads(first=seqs[0], last=seqs[-1]))
        reads.add(_Reads(first=seqs[0], last=seqs[-1], entries=len(seqs), requests=1))

    async def run(self) -> None:
        """Write the summaries of each minute."""
        while True:
            await self._clock.sleep(MINUTE_MS)
            await self.flush()

    async def flush(self) -> None:
        """Write what was counted; it is kept when the ledger cannot take it now."""
        if not self._counts:
            return
        written, self._counts = self._counts, {}  # what comes meanwhile is for the next summary
        drafts = [self._draft(credential, reads) for credential, reads in sorted(written.items())]
        try:
            await self._ledger.append(drafts, purpose=Purpose.OUTCOME)
        except (Unavailable, OutcomeUnknown):
            for credential, reads in written.items():
                self._counts.setdefault(credential, _Reads(first=reads.first, last=reads.last)).add(reads)

    def _draft(self, credential: str, reads: _Reads) -> Draft:
        body = entries.AuditorReadEntry(
            last=reads.last,
            first=reads.first,
            entries=reads.entries,
            requests=reads.requests,
            credential=credential,
        )
        return Draft(
            kind=entries.AUDITOR_READ,
            actor="box",
            time_ms=self._clock.now_ms(),
            body=cbor.encode(msgspec.to_builtins(body)),
        )

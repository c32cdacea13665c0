"""Who may read how fast: strangers share one rate, each auditor has one, and what auditors read is counted."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from appliance.api.rate_limit import TokenBucket
from appliance.identity.auditor_reads import AuditorReads
from appliance.identity.auditors import Auditor, Auditors
from appliance.ports.clock import Clock

READS_PER_S: Final = 200
"""All readers together. An answer costs 0.25 ms of the loop's core (measured), so payments lose at most a twentieth of
it; the tiles of 10^7 entries take 200 s."""
READS_BURST: Final = 200
AUDITOR_READS_PER_S: Final = 20
"""Bundles of 256 entries: 5,000 entries a second for each credential."""
AUDITOR_READS_BURST: Final = 100


class Access:
    """Asked first by every page that reads the log."""

    def __init__(self, *, auditors: Auditors, reads: AuditorReads, clock: Clock) -> None:
        self._auditors = auditors
        self._reads = reads
        self._clock = clock
        self._everybody = TokenBucket(per_second=READS_PER_S, burst=READS_BURST, clock=clock)
        self._by_credential: dict[str, TokenBucket] = {}

    def anybody(self) -> None:
        """Raise Rejected `too_many_reads` when all readers together are too fast."""
        self._everybody.take()

    def auditor(self, request: web.Request) -> Auditor:
        """The auditor whose token the request carries; guessing tokens is bounded by everybody's rate.

        Raises:
            Rejected: `too_many_reads`, and the codes of `Auditors.authenticate`.
        """
        self._everybody.take()
        auditor = self._auditors.authenticate(request.headers.get("Authorization", ""))
        bucket = self._by_credential.get(auditor.credential)
        if bucket is None:
            bucket = TokenBucket(per_second=AUDITOR_READS_PER_S, burst=AUDITOR_READS_BURST, clock=self._clock)
            self._by_credential[auditor.credential] = bucket  # as many as credentials were ever made
        bucket.take()
        return auditor

    def showed(self, auditor: Auditor, seqs: range | tuple[int, ...]) -> None:
        """Remember which entries were shown, for the minute's summary in the log."""
        self._reads.count(auditor.credential, seqs)

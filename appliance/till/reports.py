"""X and Z of a terminal and of its drawer. X reads; Z is one entry that says what the period came to and ends it."""

from __future__ import annotations

import sqlite3
from typing import Final

from appliance.identity.authenticate import Authenticate
from appliance.identity.signed import SignedRequest
from appliance.ledger.attempts import look_again
from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Unavailable
from appliance.model.payment import AuthenticatedRequest
from appliance.model.till import Scope
from appliance.payment.drafts import ask, draft, persons
from appliance.payment.guards import unused
from appliance.payment.respond import receipt_in_time
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.till.entries import read_closed
from appliance.till.guards import PERIOD_CHANGED, PeriodUnchanged
from appliance.till.projection import drawer_of
from appliance.till.records import last_change, read_period
from appliance.till.repeats import once
from appliance.wire import till_entries
from appliance.wire.answers import ReportAnswer
from appliance.wire.requests import ReportBody
from appliance.wire.till_entries import PeriodClosedEntry, PeriodFacts

_KIND_OF: Final = {Scope.DRAWER: till_entries.DRAWER_CLOSED, Scope.TERMINAL: till_entries.TERMINAL_CLOSED}
_RACES_MAX: Final = 50


class Reports:
    """The verb `report`."""

    def __init__(
        self, *, authenticate: Authenticate, admission: Admission, ledger: Ledger, clock: Clock, currency: str
    ) -> None:
        self._authenticate = authenticate
        self._admission = admission
        self._ledger = ledger
        self._clock = clock
        self._currency = currency

    async def report(self, signed: SignedRequest) -> ReportAnswer:
        """X, or Z. The same Z again gets the same answer; another one ends the next period.

        Raises:
            Rejected: `period_empty`: nothing to close.
        """
        request = await self._authenticate(signed, ReportBody)
        refuse_card_numbers((request.body.cashier or "",))
        if request.body.kind == "x":
            _, period = await self._ledger.read(lambda connection: self._look(connection, request))
            return self._answer(request, period)
        known = await once(self._ledger, self._admission, request.identity, lambda: self._close(request))
        return await self._closed(request, known.seq)

    async def _close(self, request: AuthenticatedRequest[ReportBody]) -> None:
        asked, disclosures = ask(request.identity, persons(cashier=request.body.cashier))
        scope = Scope(request.body.scope)

        async def attempt() -> None:
            last, period = await self._ledger.read(lambda connection: self._look(connection, request))
            body = PeriodClosedEntry(asked=asked, period=period)
            entry = draft(_KIND_OF[scope], request.identity.terminal, self._clock.now_ms(), body, disclosures)
            guard = PeriodUnchanged(fresh=unused(request.identity.key), scope=scope, name=period.name, last=last)
            await self._ledger.append([entry], guard, purpose=Purpose.OUTCOME)

        busy = Unavailable("drawer_busy", "the till keeps selling; ask again")
        await look_again(attempt, after=PERIOD_CHANGED, times_max=_RACES_MAX, busy=busy)

    def _look(
        self, connection: sqlite3.Connection, request: AuthenticatedRequest[ReportBody]
    ) -> tuple[int, PeriodFacts]:
        scope, terminal = Scope(request.body.scope), request.identity.terminal
        name = drawer_of(connection, terminal) if scope is Scope.DRAWER else terminal
        return last_change(connection, scope, name), read_period(connection, scope, name, self._currency)

    def _answer(self, request: AuthenticatedRequest[ReportBody], period: PeriodFacts) -> ReportAnswer:
        return ReportAnswer(
            key=str(request.identity.key), kind=request.body.kind, now_ms=self._clock.now_ms(), period=period
        )

    async def _closed(self, request: AuthenticatedRequest[ReportBody], seq: int) -> ReportAnswer:
        entry = await self._ledger.read(lambda connection: read_closed(connection, seq))
        receipt = await receipt_in_time(self._ledger, [seq])
        return ReportAnswer(
            key=str(request.identity.key),
            kind=request.body.kind,
            now_ms=self._clock.now_ms(),
            period=entry.period,
            seq=seq,
            pending=receipt is None,
            receipt=receipt,
        )

"""Screening: judges each sale and refund before money moves, and remembers what was let through.

Owns the thresholds that hold and the activity of terminals. Must never read the log or wait while it judges.

* Counted is what was let through and may have been recorded: at once, so that requests beside each other see each
  other, and taken back when nothing was written. So a retry counts once, and teaches the running mean nothing.
* The box's clock decides, not the till's; a stored sale was sold when its till says, and is only ever watched.
* After a start the end of the log is counted again; no more than `RECENT_ENTRIES_MAX` of it.
"""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from appliance.config.screening import Screening
from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.page import read_page
from appliance.model.errors import Rejected, TillstoneError, Unavailable
from appliance.model.limits import MINUTE_MS
from appliance.model.payment import ClearedPayment, Identity, ValidPayment
from appliance.model.screening import Judgement, Reason, Rule, ScreeningRefused, Verdict
from appliance.payment.drafts import refused_draft
from appliance.payment.screening.activity import REFUNDS_SPAN_MS, Activity
from appliance.payment.screening.features import Asked, asked_of, features_of
from appliance.payment.screening.records import KINDS_COUNTED, counted_of, find_changes
from appliance.payment.screening.rules import OFF, REFUSE, mode_of, reasons
from appliance.payment.screening.thresholds import still_valid
from appliance.payment.screening.trees import Model
from appliance.ports.clock import Clock

RECENT_ENTRIES_MAX: Final = 20_000
REFUSED_RECORDED_MAX: Final = 30
"""Entries about refused requests, per terminal and minute: what is beyond them stands in `refusals`, as a number."""
_PAGE: Final = 1_000


class Screener:
    """What every sale and refund passes."""

    def __init__(
        self,
        *,
        settings: Screening,
        zone: ZoneInfo,
        ledger: Ledger,
        clock: Clock,
        count: Callable[[str, str], None],
    ) -> None:
        """Args: count: told each judgement and each rule that spoke, for the metrics."""
        self._settings = settings
        self._zone = zone
        self._ledger = ledger
        self._clock = clock
        self._model: Model | None = None
        self._count = count
        self._activity = Activity()
        self.thresholds = settings
        self.exposed_minor = 0
        """What hangs on banks that were not asked, as it was told last: nothing here waits for a table."""

    async def load(self, model: Model | None) -> None:
        """Read the changed thresholds, and what terminals did lately; after recovery, before the doors open."""
        self._model = model
        await self.load_thresholds()
        oldest_ms = self._clock.now_ms() - REFUNDS_SPAN_MS
        self._activity = Activity()
        after = max(self._ledger.head.size - RECENT_ENTRIES_MAX, 0) - 1
        while True:
            counted, next_after = await self._ledger.read(partial(_recent, after=after))
            for terminal, at_ms, amount_minor, is_refund in counted:
                if at_ms >= oldest_ms:
                    activity = self._activity.of(terminal)
                    (activity.refunded if is_refund else activity.sold)(at_ms, amount_minor)
            if next_after == after:
                return
            after = next_after

    async def load_thresholds(self) -> None:
        """Read what the owner changed."""
        self.thresholds = still_valid(self._settings, await self._ledger.read(find_changes))

    def sale(self, valid: ValidPayment) -> Verdict:
        """Judge a sale that is asked for now. Raises ScreeningRefused."""
        at_ms = valid.identity.received_ms
        minute = self.minute_of(at_ms)
        asked = asked_of(valid.sale, at_ms=at_ms, minute=minute, exposed_minor=self.exposed_minor)
        verdict, rule = self._judge(asked, valid.identity)
        return self._decided(verdict, rule, valid.sale.total_minor)

    def stored_sale(self, valid: ValidPayment) -> Verdict:
        """Judge a sale whose cash is in the drawer already: refusing it would only lose its record."""
        at_ms = min(valid.sale.sold_at_ms, valid.identity.received_ms)
        verdict, _ = self._judge(asked_of(valid.sale, at_ms=at_ms, minute=self.minute_of(at_ms)), valid.identity)
        self._tell(verdict)
        return verdict

    def refund(self, identity: Identity, asked: Asked) -> Verdict:
        """Judge a refund. Raises ScreeningRefused."""
        return self._decided(*self._judge(asked, identity), asked.amount_minor)

    def count_sale(self, cleared: ClearedPayment) -> None:
        """From now on it counts for what comes after it."""
        identity, sale = cleared.valid.identity, cleared.valid.sale
        self._activity.of(identity.terminal).sales.add(cleared.verdict.at_ms, sale.total_minor)

    def wrote_sale(self, cleared: ClearedPayment) -> None:
        """It was written, or may have been."""
        identity, sale = cleared.valid.identity, cleared.valid.sale
        self._activity.of(identity.terminal).wrote(cleared.verdict.at_ms, sale.total_minor)

    def uncount_sale(self, cleared: ClearedPayment) -> None:
        """Nothing was written."""
        identity, sale = cleared.valid.identity, cleared.valid.sale
        self._activity.of(identity.terminal).sales.add(cleared.verdict.at_ms, sale.total_minor, -1)

    @contextmanager
    def counting_sale(self, cleared: ClearedPayment) -> Iterator[None]:
        """While it is recorded, and from then on, it counts; unless nothing was written."""
        self.count_sale(cleared)
        is_written = True
        try:
            yield
        except (Rejected, Unavailable):
            # Anything else, such as a till that hangs up, may have been written.
            is_written = False
            self.uncount_sale(cleared)
            raise
        finally:
            if is_written:
                self.wrote_sale(cleared)

    @contextmanager
    def counting_refund(self, identity: Identity, verdict: Verdict, amount_minor: int) -> Iterator[None]:
        """The same for a refund."""
        refunds = self._activity.of(identity.terminal).refunds
        refunds.add(verdict.at_ms, amount_minor)
        try:
            yield
        except (Rejected, Unavailable):
            refunds.add(verdict.at_ms, amount_minor, -1)
            raise

    async def record_refused(self, refusal: TillstoneError, identity: Identity, verb: str) -> None:
        """Keep a refused verdict; the request's key stays unused. What something else refused leaves nothing.

        Raises:
            Unavailable: the log takes nothing now.
        """
        if not isinstance(refusal, ScreeningRefused):
            return
        activity = self._activity.of(identity.terminal)
        now_ms = self._clock.now_ms()
        if activity.refused.within(now_ms, MINUTE_MS)[0] >= REFUSED_RECORDED_MAX:
            return
        activity.refused.add(now_ms, 0)
        draft = refused_draft(identity, verb, refusal.amount_minor, refusal.verdict, now_ms)
        await self._ledger.append([draft], purpose=Purpose.INTENT)

    def _judge(self, asked: Asked, identity: Identity) -> tuple[Verdict, Rule | None]:
        """The verdict as if everything could only watch, and the first rule that would refuse."""
        activity = self._activity.of(identity.terminal)
        spoken = list(reasons(asked, activity, self.thresholds))
        score = None
        if self._model is not None and mode_of(Rule.MODEL, self.thresholds) != OFF:
            score = self._model.score_permille(features_of(asked, activity))
            if score >= self.thresholds.model_score_permille:
                spoken.append(Reason(rule=Rule.MODEL, seen=score, limit=self.thresholds.model_score_permille))
        refusing = [reason.rule for reason in spoken if mode_of(reason.rule, self.thresholds) == REFUSE]
        verdict = Verdict(
            at_ms=asked.at_ms,
            judgement=Judgement.WATCHED if spoken else Judgement.PASSED,
            reasons=tuple(spoken),
            score_permille=score,
            model_sha256=None if score is None or self._model is None else self._model.sha256,
        )
        return verdict, refusing[0] if refusing else None

    def _decided(self, verdict: Verdict, rule: Rule | None, amount_minor: int) -> Verdict:
        if rule is not None:
            refused = replace(verdict, judgement=Judgement.REFUSED)
            self._tell(refused)
            raise ScreeningRefused(refused, rule, amount_minor)
        self._tell(verdict)
        return verdict

    def _tell(self, verdict: Verdict) -> None:
        self._count(verdict.judgement, "any")
        for reason in verdict.reasons:
            self._count(verdict.judgement, reason.rule)

    def minute_of(self, at_ms: int) -> int:
        """Minute of the day on the shop's wall clock."""
        local = datetime.datetime.fromtimestamp(at_ms // 1000, self._zone)
        return local.hour * 60 + local.minute


def _recent(connection: sqlite3.Connection, after: int) -> tuple[list[tuple[str, int, int, bool]], int]:
    """What a page of the log counts for, read and decoded beside the event loop."""
    page = read_page(connection, after, _PAGE, KINDS_COUNTED)
    return [counted for entry in page.entries if (counted := counted_of(entry)) is not None], page.next_after

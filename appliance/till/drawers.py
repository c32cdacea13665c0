"""What cashiers do to drawers beside selling: float, paid in, paid out, no sale, count. Each is one guarded entry.

Nothing here moves money anywhere: it writes down what a person did, and refuses what cannot have been.
"""

from __future__ import annotations

from typing import Final

from appliance.identity.authenticate import Authenticate
from appliance.identity.signed import SignedRequest
from appliance.ledger.attempts import look_again
from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import DrawerId, drawer_id
from appliance.model.payment import AuthenticatedRequest
from appliance.model.till import DrawerAct
from appliance.payment.drafts import ask, draft, persons
from appliance.payment.guards import unused
from appliance.payment.respond import receipt_in_time
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.till.entries import read_act
from appliance.till.guards import PERIOD_CHANGED, DrawerActAllowed
from appliance.till.projection import drawer_of
from appliance.till.records import answer_of
from appliance.till.repeats import once
from appliance.wire import till_entries
from appliance.wire.answers import DrawerAnswer
from appliance.wire.requests import DrawerBody

_KIND_OF: Final = {
    DrawerAct.FLOAT: till_entries.DRAWER_FLOAT,
    DrawerAct.PAID_IN: till_entries.DRAWER_PAID_IN,
    DrawerAct.PAID_OUT: till_entries.DRAWER_PAID_OUT,
    DrawerAct.NO_SALE: till_entries.DRAWER_NO_SALE,
    DrawerAct.COUNT: till_entries.DRAWER_COUNT,
}
_ACT_OF: Final = {kind: act for act, kind in _KIND_OF.items()}
_RACES_MAX: Final = 5


class Drawers:
    """The verb `drawer`."""

    def __init__(
        self, *, authenticate: Authenticate, admission: Admission, ledger: Ledger, clock: Clock, currency: str
    ) -> None:
        self._authenticate = authenticate
        self._admission = admission
        self._ledger = ledger
        self._clock = clock
        self._currency = currency

    async def act(self, signed: SignedRequest) -> DrawerAnswer:
        """Record one act. The same request again gets the same answer.

        Raises:
            Rejected: `drawer_short` and what `_validate` refuses; nothing was written.
        """
        request = await self._authenticate(signed, DrawerBody)
        _validate(request.body)
        known = await once(self._ledger, self._admission, request.identity, lambda: self._record(request))
        return await self._answer(request, known.seq)

    async def _record(self, request: AuthenticatedRequest[DrawerBody]) -> None:
        body, identity = request.body, request.identity
        asked, disclosures = ask(identity, persons(cashier=body.cashier))
        act = DrawerAct(body.act)

        async def attempt() -> None:
            drawer = drawer_id(body.drawer or await self._drawer(request))
            entry = till_entries.DrawerEntry(
                asked=asked, amount=body.amount_minor, drawer=drawer, reason=body.reason, currency=self._currency
            )
            new = draft(_KIND_OF[act], identity.terminal, self._clock.now_ms(), entry, disclosures)
            guard = DrawerActAllowed(
                fresh=unused(identity.key),
                act=act,
                terminal=identity.terminal,
                drawer=drawer,
                is_chosen=body.drawer is not None,
                amount_minor=body.amount_minor,
            )
            await self._ledger.append([new], guard, purpose=Purpose.INTENT)

        busy = Unavailable("drawer_busy", "the terminal keeps changing its drawer; ask again")
        await look_again(attempt, after=PERIOD_CHANGED, times_max=_RACES_MAX, busy=busy)

    async def _drawer(self, request: AuthenticatedRequest[DrawerBody]) -> DrawerId:
        terminal = request.identity.terminal
        return DrawerId(await self._ledger.read(lambda connection: drawer_of(connection, terminal)))

    async def _answer(self, request: AuthenticatedRequest[DrawerBody], seq: int) -> DrawerAnswer:
        kind, entry = await self._ledger.read(lambda connection: read_act(connection, seq))
        held_minor, difference_minor = await self._ledger.read(lambda connection: answer_of(connection, seq))
        receipt = await receipt_in_time(self._ledger, [seq])
        return DrawerAnswer(
            key=str(request.identity.key),
            act=_ACT_OF[kind].value,
            seq=seq,
            drawer=entry.drawer,
            currency=entry.currency,
            amount_minor=entry.amount,
            held_minor=held_minor,
            difference_minor=difference_minor,
            now_ms=self._clock.now_ms(),
            pending=receipt is None,
            receipt=receipt,
        )


def _validate(body: DrawerBody) -> None:
    refuse_card_numbers((body.reason, body.cashier or "", body.drawer or ""))
    act = DrawerAct(body.act)
    if body.drawer is not None and act is not DrawerAct.FLOAT:
        raise Rejected("drawer_not_chosen", "a float says which drawer the terminal uses; the other acts follow it")
    if act is DrawerAct.NO_SALE and body.amount_minor != 0:
        raise Rejected("drawer_amount_wrong", f"opening without a sale moves nothing, saw {body.amount_minor}")
    # A float of nothing takes over a drawer: a cashier carries it to another till.
    moves = act in (DrawerAct.PAID_IN, DrawerAct.PAID_OUT) or (act is DrawerAct.FLOAT and body.drawer is None)
    if moves and body.amount_minor == 0:
        raise Rejected("drawer_amount_wrong", f"{act} moves an amount above zero, saw 0")
    if act in (DrawerAct.PAID_IN, DrawerAct.PAID_OUT) and not body.reason.strip():
        raise Rejected("reason_missing", f"{act} says what for")

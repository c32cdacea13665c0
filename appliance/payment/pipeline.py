"""The journey of a payment, in order. This module knows the order and does no work itself.

    authenticate   who signed this, for us, just now?
    validate       does the sale add up?                              -> ValidPayment
    screen         may this box take it now, do the rules let it?     -> ClearedPayment
    authorise      cash holds by itself; a card gets a durable intent -> PreparedPayment
    record         the sale is in the log, fsynced                    -> RecordedPayment
    respond        the result, and a receipt that anyone can verify

Up to `authorise` a failure is an exception and no money has moved. From the durable intent on, what happened is a value
in the log: `operate.py` asks the provider once, `resolve.py` owns what stays unknown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from sqlite3 import Connection

from appliance.identity.authenticate import Authenticate
from appliance.identity.signed import SignedRequest
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import RequestKey, request_key
from appliance.model.invariants import present
from appliance.model.payment import ClearedPayment, Identity, RecordedPayment
from appliance.model.sale import TenderKind
from appliance.model.screening import ScreeningRefused
from appliance.payment.authorise import prepare
from appliance.payment.capture import Capture
from appliance.payment.operate import Operations
from appliance.payment.parts import as_told
from appliance.payment.record import being_checked, record_sale
from appliance.payment.records import find_payment, find_refund, find_request
from appliance.payment.refund import Refund
from appliance.payment.repeats import AlreadyRecorded, judge
from appliance.payment.respond import Respond
from appliance.payment.screen import screen
from appliance.payment.screening.judge import Screener
from appliance.payment.undo import Undo
from appliance.payment.validate import ShopRules, validate
from appliance.payment.vault.rows import TokenRefused
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.runtime.stages import Stages
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import AbortBody, CaptureBody, PaymentBody, RefundBody, ReversalBody, StatusBody


class PaymentPipeline:
    """Each verb of the terminal's door, as one straight line of stages."""

    def __init__(
        self,
        *,
        authenticate: Authenticate,
        rules: ShopRules,
        admission: Admission,
        operations: Operations | None,
        undo: Undo,
        refund: Refund,
        capture: Capture,
        screener: Screener,
        respond: Respond,
        ledger: Ledger,
        clock: Clock,
        stages: Stages,
    ) -> None:
        self._authenticate = authenticate
        self._rules = rules
        self._admission = admission
        self._operations = operations
        self._undo = undo
        self._refund = refund
        self._capture = capture
        self._screener = screener
        self._respond = respond
        self._ledger = ledger
        self._clock = clock
        self._stages = stages

    async def pay(self, signed: SignedRequest) -> PaymentAnswer:
        """Take one sale. The same request again gets the same result."""
        with self._stages("authenticate"):
            request = await self._authenticate(signed, PaymentBody)
        key = request.identity.key
        try:
            with self._stages("validate", key):
                valid = validate(request, self._rules)
            with self._stages("screen", key):
                cleared = screen(
                    valid,
                    admission=self._admission,
                    takes=self._takes,
                    screener=self._screener,
                )
            with self._screener.counting_sale(cleared):
                recorded = await self._take(cleared)
            if cleared.valid.sale.is_in_parts:
                recorded = await self._standing(str(key))
        except AlreadyRecorded:
            recorded = await self._standing(str(key))
        except (Unavailable, ScreeningRefused, TokenRefused) as refusal:
            # The box takes nothing new now, or not this; what it took before is still told.
            if not await self._was_recorded(request.identity, key):
                await self._screener.record_refused(refusal, request.identity, "payment")
                raise
            recorded = await self._standing(str(key))
        with self._stages("respond", key):
            return await self._respond.current(recorded, "payment", str(key))

    async def refund(self, signed: SignedRequest) -> PaymentAnswer:
        """Give a payment back, all of it or a part."""
        request = await self._authenticate(signed, RefundBody)
        return await self._changed(request.identity, request.body.of, "refund", lambda: self._refund(request))

    async def capture(self, signed: SignedRequest) -> PaymentAnswer:
        """Take money that a card's bank holds."""
        request = await self._authenticate(signed, CaptureBody)
        return await self._changed(request.identity, request.body.of, "capture", lambda: self._capture(request))

    async def reverse(self, signed: SignedRequest) -> PaymentAnswer:
        """See to it that a payment does not stand."""
        request = await self._authenticate(signed, ReversalBody)
        return await self._changed(request.identity, request.body.of, "reversal", lambda: self._undo.reverse(request))

    async def abort(self, signed: SignedRequest) -> PaymentAnswer:
        """Stop a payment that is not approved yet."""
        request = await self._authenticate(signed, AbortBody)
        return await self._changed(request.identity, request.body.of, "abort", lambda: self._undo.abort(request))

    async def status(self, signed: SignedRequest) -> PaymentAnswer:
        """What the ledger says about a key, with a receipt under the newest head."""
        request = await self._authenticate(signed, StatusBody)
        verb, recorded = await self._known(request.body.of)
        return await self._respond.final(recorded, verb, request.body.of)

    def _takes(self, tender: TenderKind) -> bool:
        return self._operations is not None and self._operations.providers.of_tender(tender) is not None

    async def _take(self, cleared: ClearedPayment) -> RecordedPayment:
        card = cleared.valid.sale.card_tender
        key = cleared.valid.identity.key
        if card is None or self._operations is None:
            with self._stages("record", key):
                recorded, begun = await record_sale(cleared, self._ledger, self._clock.now_ms())
            self._wait_no_longer(begun.outlived)
            return recorded
        providers = self._operations.providers
        name = present(providers.of_tender(card.kind), "screening lets through what a provider takes")
        providers.admit(name)
        kind = providers.beginning(name, is_captured_later=cleared.valid.sale.is_captured_later)
        await self._operations.vault.admit(card.source, name, kind)
        try:
            with self._operations.readers.held(card, cleared.valid.identity) as placed:
                with self._stages("authorise", key):
                    prepared = await prepare(
                        cleared,
                        placed,
                        name,
                        kind,
                        self._ledger,
                        self._clock.now_ms(),
                        offline=self._operations.offline_limits if providers.forwards(name) is not None else None,
                    )
                self._operations.start(prepared.spend(), prepared.intent_hash)
        except Unavailable as busy:
            if busy.code == "reader_busy":
                # Another card for the reader that still waits for the first: the till asks again and finds it free.
                self._wait_no_longer(cleared.valid.retry_of)
            raise
        self._wait_no_longer(prepared.outlived)
        return being_checked(prepared)

    def _wait_no_longer(self, outlived: tuple[RequestKey, ...]) -> None:
        """The customer pays otherwise: a reader that still waits for a card of an earlier try is freed."""
        if self._operations is not None:
            for payment in outlived:
                self._operations.give_up(payment)

    async def _changed(
        self, identity: Identity, of: str, verb: str, change: Callable[[], Awaitable[RequestKey]]
    ) -> PaymentAnswer:
        try:
            self._admission.admit_undo()
            await change()
        except AlreadyRecorded:
            pass  # the same request again: what follows answers it
        except Unavailable:
            if not await self._was_recorded(identity, request_key(of)):
                raise
        # A payment may be refunded several times: each refund has a result of its own.
        about = str(identity.key) if verb == "refund" else of
        return await self._respond.current(await self._standing(about), verb, str(identity.key))

    async def _was_recorded(self, identity: Identity, payment: RequestKey) -> bool:
        known = await self._ledger.read(lambda connection: find_request(connection, identity.key))
        try:
            await judge(self._ledger, identity, payment, known)
        except AlreadyRecorded:
            return True
        return False

    async def _standing(self, key_text: str) -> RecordedPayment:
        _, recorded = await self._known(key_text)
        return recorded

    async def _known(self, key_text: str) -> tuple[str, RecordedPayment]:
        """What the key was used for, and its result: a refund has one of its own, else how the payment stands."""
        key = request_key(key_text)

        def read(connection: Connection) -> tuple[str, RecordedPayment] | None:
            known = find_request(connection, key)
            if known is None:
                return None
            recorded = find_refund(connection, key)
            if recorded is None and known.payment is not None:
                standing = find_payment(connection, known.payment)
                recorded = None if standing is None else as_told(connection, standing.recorded)
            return None if recorded is None else (known.verb, recorded)

        found = await self._ledger.read(read)
        if found is None:
            raise Rejected("payment_unknown", "no request with this key is in the ledger")
        return found

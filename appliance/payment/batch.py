"""Store-and-forward: many sales under one signature, answered by one receipt pair with a proof for each.

Each sale keeps the key it would have had alone, so a sale sent before, alone or in a lost batch, is recognised.
A sale that is refused does not hold up the others. Only what holds by itself is taken: cash, and cards stated by the
cashier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.identity.authenticate import Authenticate, payload_hash_of
from appliance.identity.signed import SignedRequest
from appliance.ledger.draft import Purpose, Recorded
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey, request_key
from appliance.model.limits import BATCH_SALES_MAX, DAY_MS, KEY_AGE_MAX_MS, KEY_AHEAD_MAX_MS
from appliance.model.payment import AuthenticatedRequest, ClearedPayment, Identity
from appliance.model.sale import MOVED_BY_PROVIDERS, TenderKind
from appliance.payment.drafts import sale_draft
from appliance.payment.guards import unused
from appliance.payment.records import find_payment
from appliance.payment.repeats import AlreadyRecorded, is_used, judge_used
from appliance.payment.respond import receipt_in_time
from appliance.payment.screen import screen_stored
from appliance.payment.screening.judge import Screener
from appliance.payment.validate import ShopRules, validate
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.wire.answers import BatchAnswer, BatchResult
from appliance.wire.requests import BatchBody, BatchItem, PaymentBody

_SLICE_SALES: Final = 16  # about 5 ms of work: a batch must not make the payments beside it wait longer
_NEVER_STORED: Final = MOVED_BY_PROVIDERS | {TenderKind.VOUCHER}
_ITEM_HEAD: Final = cbor.map_head(2) + cbor.encode("key")
_PAYMENT_KEY: Final = cbor.encode("payment")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Accepted:
    result: BatchResult
    entry_seqs: tuple[int, ...]


class Batch:
    """The verb `batch`."""

    def __init__(
        self,
        *,
        authenticate: Authenticate,
        rules: ShopRules,
        admission: Admission,
        ledger: Ledger,
        clock: Clock,
        screener: Screener,
        sales_max: int = BATCH_SALES_MAX,
    ) -> None:
        self._authenticate = authenticate
        self._rules = rules
        self._admission = admission
        self._ledger = ledger
        self._clock = clock
        self._screener = screener
        self._sales_max = sales_max

    async def take(self, signed: SignedRequest) -> BatchAnswer:
        """Record every sale of the batch that can be recorded.

        Raises:
            Rejected: the batch as a whole: signature, claims, shape.
            Unavailable: the box takes no sales now; nothing of the batch was written.
            OutcomeUnknown: the commit failed; send the same batch again.
        """
        request = await self._authenticate(signed, BatchBody)
        if len(request.body.items) > self._sales_max:
            raise Rejected("body_invalid", f"expected at most {self._sales_max} sales, saw {len(request.body.items)}")
        # Each result repeats its key, so what is no key refuses the whole batch: nothing else is said back.
        items = [(request_key(item.key), item) for item in request.body.items]
        outcomes: list[_Accepted | BatchResult | ClearedPayment] = []
        for start in range(0, len(items), _SLICE_SALES):
            outcomes += [await self._clear(key, item, request) for key, item in items[start : start + _SLICE_SALES]]
            await asyncio.sleep(0)
        fresh = [each for each in outcomes if isinstance(each, ClearedPayment)]
        recorded = await self._record(fresh)
        answers = iter(recorded)
        settled = [next(answers) if isinstance(each, ClearedPayment) else each for each in outcomes]
        seqs = [seq for each in settled if isinstance(each, _Accepted) for seq in each.entry_seqs]
        receipt = await receipt_in_time(self._ledger, seqs) if seqs else None
        return BatchAnswer(
            key=str(request.identity.key),
            results=tuple(each.result if isinstance(each, _Accepted) else each for each in settled),
            now_ms=self._clock.now_ms(),
            receipt=receipt,
            pending=bool(seqs) and receipt is None,
        )

    async def _clear(
        self, key: RequestKey, item: BatchItem, request: AuthenticatedRequest[BatchBody]
    ) -> ClearedPayment | BatchResult:
        try:
            await self._check_age(key, request.identity.received_ms)
            if any(tender.kind in _NEVER_STORED for tender in item.payment.tenders):
                raise Rejected(
                    "batch_takes_cash", "a stored sale with a card or voucher must be sent alone, while fresh"
                )
            if item.payment.retry_of:
                raise Rejected("batch_takes_no_retry", "a sale that tries another again must be sent alone")
            if item.payment.part_of is not None or item.payment.remaining_minor:
                raise Rejected("batch_takes_no_part", "a part of a sale must be sent alone, while the rest is known")
            valid = validate(_single(item, key, request.identity), self._rules)
        except Rejected as refusal:
            return _refused(item.key, refusal)
        cleared = screen_stored(valid, admission=self._admission, screener=self._screener)
        self._screener.count_sale(cleared)
        return cleared

    async def _check_age(self, key: RequestKey, now_ms: int) -> None:
        """As of a single request (`identity/authenticate.py`): a key that was used gets its result at any age."""
        is_near = now_ms - KEY_AGE_MAX_MS <= key.created_ms <= now_ms + KEY_AHEAD_MAX_MS
        if not is_near and not await is_used(self._ledger, key):
            raise Rejected("key_too_old", f"a key is at most {KEY_AGE_MAX_MS // DAY_MS} days old and one day ahead")

    async def _record(self, cleared: Sequence[ClearedPayment]) -> list[_Accepted | BatchResult]:
        now_ms = self._clock.now_ms()
        members = []
        for start in range(0, len(cleared), _SLICE_SALES):
            part = cleared[start : start + _SLICE_SALES]
            members += [([sale_draft(each, now_ms)], unused(each.valid.identity.key)) for each in part]
            await asyncio.sleep(0)
        results = await self._ledger.append_each(members, purpose=Purpose.INTENT)
        return [await self._settle(each, result) for each, result in zip(cleared, results, strict=True)]

    async def _settle(
        self, cleared: ClearedPayment, result: tuple[Recorded, ...] | Rejected
    ) -> _Accepted | BatchResult:
        key = cleared.valid.identity.key
        if isinstance(result, Rejected):
            self._screener.uncount_sale(cleared)
            result = await judge_used(self._ledger, cleared.valid.identity, key, result)
        if isinstance(result, AlreadyRecorded):
            standing = await self._ledger.read(lambda connection: find_payment(connection, key))
            if standing is not None:
                seqs = standing.recorded.entry_seqs
                known = BatchResult(key=str(key), state=standing.recorded.state.value, seq=seqs[-1])
                return _Accepted(result=known, entry_seqs=seqs)
        if isinstance(result, Rejected):
            return _refused(str(key), result)
        self._screener.wrote_sale(cleared)
        (entry,) = result
        return _Accepted(
            result=BatchResult(key=str(key), state="approved", seq=entry.seq),
            entry_seqs=(entry.seq,),
        )


def _single(item: BatchItem, key: RequestKey, batch: Identity) -> AuthenticatedRequest[PaymentBody]:
    """The stored sale as if it had come alone. Its disclosure is the sale as the batch held it, not the whole batch:
    one customer's erasure must not take the evidence of a thousand others with it."""
    payment = cbor.encode_ordered(
        msgspec.to_builtins(item.payment)
    )  # encoded once, for the hash and for the disclosure
    return AuthenticatedRequest(
        identity=Identity(
            key=key,
            terminal=batch.terminal,
            payload_hash=payload_hash_of("payment", batch.terminal, payment),
            signed=_ITEM_HEAD + cbor.encode(item.key) + _PAYMENT_KEY + payment,
            received_ms=batch.received_ms,
        ),
        body=item.payment,
    )


def _refused(key: str, refusal: Rejected) -> BatchResult:
    return BatchResult(key=key, state="refused", code=refusal.code, detail=refusal.detail)

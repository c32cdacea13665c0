"""Forwarding alone: a log full of cards that were accepted offline, and a device that answers at once.

Two durable commits for each, one after the other: more than one at a time of a device is what forwarding never does.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path

import msgspec
from typing_extensions import override

from appliance.ledger.draft import Draft, Purpose
from appliance.model.ids import ProviderKey, ProviderReference, TerminalId, request_key
from appliance.model.money import Money
from appliance.model.operation import Operation, OperationKind, OperationState, operation_id
from appliance.model.payment import AuthenticatedRequest, ClearedPayment, Identity
from appliance.model.screening import Judgement, Verdict
from appliance.payment.drafts import authorisation_draft, outcome_draft
from appliance.payment.validate import ShopRules, validate
from appliance.ports.provider import Answer, Confirmed, Forward
from appliance.wire.requests import PaymentBody, TenderBody
from tests.bench.part import serve_part
from tests.bench.usage import resident_mb
from tests.fakes.clock import FakeClock
from tests.fakes.forwards import FakeForwards
from tests.unit.payment.counter import PIN_PAD
from tests.unit.payment.shop import Shop, open_shop

_GROUP = 500
_WARM_UP = 200
_AMOUNT = 748
_RULES = ShopRules(currency="EUR", cash_rounding_minor=1, amount_minor_max=10**9)


class ForwardingSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How many cards wait, and how many of them are forwarded."""

    folder: str
    waiting: int
    forwarded: int


class ForwardingResult(msgspec.Struct, frozen=True, kw_only=True):
    """Forwards per second and milliseconds of one; memory when it began to run evenly, and at the end."""

    rate: float
    p50_ms: float
    before_mb: float
    after_mb: float


class _InstantPad(FakeForwards):
    """Every bank agrees at once; it remembers nothing, so that all memory is the box's."""

    @override
    async def forward(self, operation: Forward) -> Answer:
        return Confirmed(provider_reference=operation.of, amount=operation.amount, confirmed_ms=self._now_ms())


def measure(spec: ForwardingSpec) -> ForwardingResult:
    return asyncio.run(_forward(Path(spec.folder), spec))


async def _forward(folder: Path, spec: ForwardingSpec) -> ForwardingResult:
    clock = FakeClock()
    async with open_shop(folder, clock=clock, pads=_InstantPad(clock=clock)) as shop:
        for start in range(0, spec.waiting, _GROUP):
            await _accept(shop, range(start, min(start + _GROUP, spec.waiting)))
        for _ in range(_WARM_UP):
            await shop.forwarder.look()
        before_mb, took = resident_mb(os.getpid()), []
        for _ in range(spec.forwarded):
            began = time.perf_counter()
            await shop.forwarder.look()
            took.append(time.perf_counter() - began)
        (left,) = await shop.rows("SELECT count(*) FROM offline")
        if left != (spec.waiting - _WARM_UP - spec.forwarded,):
            raise ValueError(f"expected {spec.forwarded} forwarded, saw {left} of {spec.waiting} waiting")
        return ForwardingResult(
            rate=len(took) / sum(took),
            p50_ms=statistics.median(took) * 1e3,
            before_mb=before_mb,
            after_mb=resident_mb(os.getpid()),
        )


async def _accept(shop: Shop, numbers: range) -> None:
    """Intent and outcome of each, as a sale at a device without its bank leaves them."""
    clear = [_cleared(shop, number) for number in numbers]
    operations = [_operation(each, shop.clock.now_ms()) for each in clear]
    intents = [authorisation_draft(each, operation) for each, operation in zip(clear, operations, strict=True)]
    written = await shop.ledger.append(intents, purpose=Purpose.OUTCOME)
    outcomes = [
        _accepted(operation, entry.entry_hash, shop.clock.now_ms())
        for operation, entry in zip(operations, written, strict=True)
    ]
    await shop.ledger.append(outcomes, purpose=Purpose.OUTCOME)


def _cleared(shop: Shop, number: int) -> ClearedPayment:
    body = PaymentBody(
        currency="EUR",
        amount_minor=_AMOUNT,
        tenders=(TenderBody(kind="pin_pad", amount_minor=_AMOUNT),),
        reference=f"receipt-{number}",
    )
    identity = Identity(
        key=request_key(shop.new_key()),
        terminal=TerminalId("till-1"),
        payload_hash=bytes(32),
        signed=bytes(500),
        received_ms=shop.clock.now_ms(),
    )
    verdict = Verdict(at_ms=identity.received_ms, judgement=Judgement.PASSED)
    return ClearedPayment(valid=validate(AuthenticatedRequest(identity=identity, body=body), _RULES), verdict=verdict)


def _operation(cleared: ClearedPayment, now_ms: int) -> Operation:
    name = operation_id(cleared.valid.identity.key, 0)
    return Operation(
        operation_id=name,
        kind=OperationKind.AUTHORISE,
        payment_key=cleared.valid.identity.key,
        provider_key=ProviderKey(name),
        money=Money(_AMOUNT, "EUR"),
        prepared_ms=now_ms,
        terminal="till-1",
        target=None,
        source=None,
        provider=PIN_PAD,
        may_accept_offline=True,
    )


def _accepted(operation: Operation, intent_hash: bytes, now_ms: int) -> Draft:
    return outcome_draft(
        operation,
        OperationState.ACCEPTED,
        intent_hash,
        now_ms,
        reference=ProviderReference(f"pad/{operation.operation_id}"),
        code=None,
    )


if __name__ == "__main__":
    serve_part(measure, ForwardingSpec)

"""Bugs of cards that were accepted without their bank."""

from __future__ import annotations

from typing import Any

from appliance.model.ids import ProviderReference
from appliance.model.operation import Operation, OperationKind, OperationState
from appliance.payment import operate, resolve, settled
from appliance.payment.offline_records import WithinOfflineLimits
from appliance.ports import provider as port
from tests.world.bug import bug, put


@bug("Limits are round numbers anyway: one card more or less at the same moment does no harm.", seed=5)
def let_the_limits_be_raced_for() -> None:
    put(WithinOfflineLimits, check=lambda *_: None)


@bug("The bank cannot be asked for this card any more, so it will not pay.", seed=4)
def call_an_unreachable_bank_a_no() -> None:
    _settle_as(OperationKind.FORWARD, port.NotSent, OperationState.REJECTED)


@bug("A pad that was told to forget a card forgets it, whether it says so or not.", seed=1)
def believe_that_a_pad_forgot() -> None:
    _settle_as(OperationKind.WITHDRAW, port.Unknown | port.Refused, OperationState.CONFIRMED)


def _settle_as(kind: OperationKind, when: Any, state: OperationState) -> None:
    right = settled.settle

    def settle(operation: Operation, answer: port.Answer) -> settled.Settled:
        if operation.kind is kind and isinstance(answer, when):
            return settled.Settled(state=state, reference=ProviderReference(operation.target or ""), code=None)
        return right(operation, answer)

    put(operate, settle=settle)
    put(resolve, settle=settle)

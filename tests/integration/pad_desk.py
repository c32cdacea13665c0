"""What tests at a PIN pad ask of it, in the order of the core: the intent first. Holds no test."""

from __future__ import annotations

import itertools
from dataclasses import replace

from appliance.adapters.pin_pad import PinPadProvider
from appliance.model.ids import OperationId, ProviderKey, ProviderReference, TerminalId, new_request_key
from appliance.model.money import Money
from appliance.ports.provider import (
    AcceptedOffline,
    Answer,
    Authorise,
    CardSource,
    Confirmed,
    Forward,
    Offer,
    Offered,
    Reference,
    Refund,
)
from tests.fakes.clock import START_MS
from tests.pin_pad_here import PinPadHere

_numbers = itertools.count(1)
ANSWER_S = 3.0  # where silence is waited for, on a machine that may be busy


def does(here: PinPadHere, customer: str) -> None:
    here.twin.customer = lambda: customer


def names(terminal: str = "till-1") -> Reference:
    number = next(_numbers)
    key = new_request_key(START_MS, number.to_bytes(10, "big"))
    return Reference(
        log_origin="shop.example/box-1/1",
        payment_key=key,
        operation_id=OperationId(f"{key}/1"),
        terminal_id=TerminalId(terminal),
    )


async def ready(pads: PinPadProvider, amount_minor: int = 1250, terminal: str = "till-1") -> Authorise:
    reference, amount = names(terminal), Money(amount_minor, "EUR")
    offer = Offer(provider_key=ProviderKey(f"{reference.payment_key}/0"), reference=reference, amount=amount)
    made = await pads.offer(offer)
    assert isinstance(made, Offered), made
    assert made.show is None
    return Authorise(
        provider_key=ProviderKey(reference.operation_id),
        reference=reference,
        amount=amount,
        source=CardSource("counter"),
        of=made.provider_reference,
    )


async def pay(here: PinPadHere, pads: PinPadProvider, operation: Authorise | None = None) -> tuple[Authorise, Answer]:
    """As the core does: the intent first."""
    asked = await ready(pads) if operation is None else operation
    here.log.begin(asked.reference.operation_id, asked.of)
    answer = await pads.authorise(asked)
    if isinstance(answer, Confirmed | AcceptedOffline):
        here.log.names[asked.reference.operation_id] = answer.provider_reference
    return asked, answer


async def paid(here: PinPadHere, pads: PinPadProvider) -> ProviderReference:
    _, answer = await pay(here, pads)
    assert isinstance(answer, Confirmed), answer
    return answer.provider_reference


def back(of: ProviderReference, amount_minor: int) -> Refund:
    reference = names()
    key = ProviderKey(reference.operation_id)
    return Refund(provider_key=key, reference=reference, amount=Money(amount_minor, "EUR"), of=of)


async def offline(here: PinPadHere, pads: PinPadProvider, customer: str = "offline") -> tuple[Authorise, Answer]:
    does(here, customer)
    return await pay(here, pads, replace(await ready(pads), may_accept_offline=True))


def forward_of(asked: Authorise, of: ProviderReference) -> Forward:
    reference = replace(asked.reference, operation_id=OperationId(f"{asked.reference.payment_key}/2"))
    key = ProviderKey(reference.operation_id)
    return Forward(provider_key=key, reference=reference, amount=asked.amount, of=of)

"""What a PIN pad's no to a command means: for whoever pays an end, for what must go back a later try."""

from __future__ import annotations

from appliance.adapters.pin_pad_reply import moved_answer
from appliance.model.ids import OperationId, ProviderKey, ProviderReference, TerminalId, new_request_key
from appliance.model.money import Money
from appliance.ports.provider import Authorise, Cancel, CardSource, NotSent, Reference, Refund, Refused
from drivers.serial import pin_pad, zvt
from tests.fakes.clock import START_MS

KEY = new_request_key(START_MS, bytes(10))
NAMES = Reference(
    log_origin="shop.example/box-1/1",
    payment_key=KEY,
    operation_id=OperationId(f"{KEY}/0"),
    terminal_id=TerminalId("till-1"),
)
EUR = Money(1250, "EUR")
PAID = ProviderReference("counter/52500041/2/2/1250/978/paid/1127143000")
BUSY = pin_pad.Refused(error=zvt.BUSY)


def test_a_busy_pin_pad_ends_a_sale_and_puts_off_what_must_go_back() -> None:
    sale = Authorise(provider_key=ProviderKey("k"), reference=NAMES, amount=EUR, source=CardSource("counter"), of=PAID)
    answer = moved_answer(sale, "counter", BUSY, now_ms=START_MS, is_given_up=False)
    assert isinstance(answer, Refused)
    assert answer.code == "reader_busy"
    for back in (
        Refund(provider_key=ProviderKey("k"), reference=NAMES, amount=EUR, of=PAID),
        Cancel(provider_key=ProviderKey("k"), reference=NAMES, amount=EUR, of=PAID),
    ):
        assert moved_answer(back, "counter", BUSY, now_ms=START_MS, is_given_up=False) == NotSent(reason="pad_busy")

"""What a PIN pad's endings and its last payment mean, in our words. Pure.

Must never read silence as an answer: what the pad did not say is `Unknown`.

Source: chapter 8, error messages, of the ZVT text (revision 13.06), and of revision 13.11 as others list it.
"""

from __future__ import annotations

from typing import Final

from appliance.adapters.pin_pad_line import BUSY, MOVED_ON, Away, Moved
from appliance.adapters.pin_pad_name import PadPayment, payment_of
from appliance.ports.provider import (
    BANK_UNREACHABLE,
    Absent,
    AcceptedOffline,
    Authorise,
    Cancel,
    Confirmed,
    Declined,
    Forward,
    Found,
    NotSent,
    Refund,
    Refused,
    Unknown,
)
from drivers.serial import pin_pad as driver
from drivers.serial import zvt

Moves = Authorise | Refund | Cancel
_BANK_MAX: Final = 0x63  # codes up to here are the bank's own
_CODES: Final = {
    0x64: ("card_unreadable", "The PIN pad could not read the card."),
    0x6A: ("pad_full", "The PIN pad's memory is full; it needs its end of day."),
    0x6B: ("pad_refuses", "The PIN pad is not set up for this till."),
    zvt.ABORTED: ("customer_canceled", "The customer cancelled at the PIN pad, or showed no card in time."),
    0x6E: ("card_declined", "The card is blocked."),
    0x6F: ("currency_unsupported", "The PIN pad does not take this currency."),
    0x78: ("expired_card", "The card has expired."),
    0x7D: (BANK_UNREACHABLE, "The PIN pad cannot reach the card's bank."),
    0x83: ("pad_refuses", "The PIN pad does not do this."),
    0x9B: (BANK_UNREACHABLE, "The PIN pad cannot reach the card's bank."),
    0xF0: ("pad_full", "The PIN pad needs its end of day."),
}
_UNCLEAR: Final = {"amount": "amount_differs", "result": "answer_unreadable", "line": "connection_lost"}


def moved_answer(
    operation: Moves, pad: str, moved: Moved, *, now_ms: int, is_given_up: bool
) -> Confirmed | AcceptedOffline | Declined | Refused | NotSent | Unknown:
    """How a command that moves money ended at `pad`."""
    match moved:
        case Away(reason=reason) if reason == MOVED_ON:
            return Refused(code=MOVED_ON, detail="something else was done at this PIN pad in between")
        case Away(reason=reason):
            return NotSent(reason=reason)
        case driver.Paid(status=status):
            named = payment_of(pad, status)
            if named.end == "offline" and isinstance(operation, Authorise):
                return AcceptedOffline(provider_reference=named.reference, amount=operation.amount, accepted_ms=now_ms)
            return confirmed(named, operation, now_ms)
        case driver.Declined(result=result):
            return declined(result, is_given_up=is_given_up)
        case driver.Refused(error=zvt.BUSY) if not isinstance(operation, Authorise):
            return NotSent(reason=BUSY)  # what is to go back goes back when the PIN pad is free
        case driver.Refused(error=zvt.BUSY):
            return Refused(code="reader_busy", detail="somebody is at this PIN pad")
        case driver.Refused(error=error):
            return Refused(code="pad_refuses", detail=f"the PIN pad does not take the command (error {error:02x})")
        case driver.Unknown(kind=kind):
            return Unknown(reason=_UNCLEAR[kind])


def is_banks_no(result: int) -> bool:
    """Whether the card's bank itself said no; everything else is the PIN pad's, the line's or the customer's."""
    return 0 < result <= _BANK_MAX


def declined(result: int, *, is_given_up: bool) -> Declined:
    """The PIN pad's no."""
    if result == zvt.ABORTED and is_given_up:
        return Declined(code="payment_aborted", message="The till stopped waiting.")
    if is_banks_no(result):
        return Declined(code="card_declined", message=f"The card's bank said no (code {result:02x}).")
    code, message = _CODES.get(result, ("pad_declined", f"The PIN pad ended it without a payment (code {result:02x})."))
    return Declined(code=code, message=message)


def confirmed(named: PadPayment, operation: Moves | Forward, now_ms: int) -> Confirmed:
    """It happened; the PIN pad has a clock without a year or a zone, so the time is the box's."""
    return Confirmed(provider_reference=named.reference, amount=operation.amount, confirmed_ms=now_ms)


def found_payment(
    operation: Authorise, *, mark: PadPayment, reading: PadPayment, now_ms: int
) -> Found | Absent | Unknown:
    """What `reading` says of a payment that was asked for when `mark` was the last one.

    By one pad, whose name at the bank is the same: after a change of either nothing is compared.
    """
    if reading.is_same(mark):
        return Absent(as_of_ms=now_ms)
    is_ours = reading.is_other(mark) and reading.is_taken and reading.amount_minor == operation.amount.amount_minor
    if not is_ours:
        return Unknown(reason="pad_tells_no_last_payment" if reading.is_none else MOVED_ON)
    if reading.end == "offline":
        if not operation.may_accept_offline:
            return Unknown(reason="accepted_offline_unasked", provider_reference=reading.reference)
        accepted = AcceptedOffline(provider_reference=reading.reference, amount=operation.amount, accepted_ms=now_ms)
        return Found(answer=accepted)
    return Found(answer=confirmed(reading, operation, now_ms))


def found_back(
    operation: Refund | Cancel, *, paid: PadPayment, mark: PadPayment, is_fresh: bool, reading: PadPayment, now_ms: int
) -> Found | Absent | Unknown:
    """What `reading` says of money that was to be given back out of `paid`.

    Args:
        is_fresh: `mark` was read just before; else it is what the log knew last, and payments that were taken by hand
            may lie between: then only the very next number at the PIN pad is ours.
    """
    if reading.is_same(mark):
        return Absent(as_of_ms=now_ms)
    is_ours = reading.is_other(mark) if is_fresh else reading.is_next_after(mark)
    # The status of a refund does not name its payment, that of a reversal does.
    is_ours = is_ours and (reading.end == "paid" or reading.undoes(paid))
    if not is_ours or reading.amount_minor != operation.amount.amount_minor:
        return Unknown(reason=MOVED_ON)
    return Found(answer=confirmed(reading, operation, now_ms))

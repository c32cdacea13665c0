"""Why a card payment is declined, not charged or being checked, in words for a cashier.

Owns the words for the `code` beside a payment's state. The state alone decides what is done; a code that is not known
here changes nothing. Must never quote what a stranger sent.

Source: docs/formats/problems.md section 6; docs.stripe.com/declines/codes.
"""

from __future__ import annotations

from typing import Final

_SAID_NO: Final = "the card's bank said no"
_NOT_SET_UP: Final = "the shop's account with the card provider does not allow it: whoever set it up must look"
_NOT_CLEAR: Final = "the card provider's answer was not clear"
_FOUND_OUT: Final = "the box finds out by itself, and never charges twice"

REASONS: Final = {
    # The card's side said no.
    "card_declined": _SAID_NO,
    "generic_decline": _SAID_NO,
    "do_not_honor": _SAID_NO,
    "lost_card": _SAID_NO,  # the cashier must not learn more than the holder may hear
    "stolen_card": _SAID_NO,
    "insufficient_funds": "there is not enough money on the card",
    "expired_card": "the card has expired",
    "incorrect_cvc": "the card's security code is wrong",
    "processing_error": "the card's bank could not work on it just now",
    "authentication_required": "the card's holder would have to confirm it, which cannot be done at this till",
    "payment_canceled": "it was cancelled at the card provider",
    "refund_failed": "the card's bank did not take the refund",
    "refund_canceled": "the refund was cancelled at the card provider",
    "charge_already_refunded": "the money was given back already, at the card provider",
    "payment_already_captured": "the card was charged already: refund it instead",
    # The card reader; nothing was charged.
    "reader_busy": "the card reader is busy with something else",
    "reader_offline": "the card reader is switched off or has no connection",
    "reader_broken": "the card reader reports a fault of its own",
    "reader_unknown": "the card provider knows no such reader: look at the settings",
    "reader_unreached": "the card reader did not hear of it",
    "reader_taken": "another payment took the card reader over",
    "connection_error": "the card reader lost its connection",
    "customer_timeout": "the customer did not pay in time",
    "customer_asked": "the customer has to agree or to pay",
    "offer_not_shown": "the customer was not asked",
    "offer_voided": "it was withdrawn, and nobody paid it",
    "payment_failed": "the customer's payment failed at Coinbase",
    "payment_processing": "the customer's payment is under way",
    "settlement_differs": "the customer paid too little or too much: the owner must look at Coinbase",
    "paid_contradicts_status": "the provider says unpaid and names a payment: the owner must look there",
    "refund_pending": "the refund is under way",
    "withdrawal_unclear": "it could not be withdrawn for certain",
    "instrument_declined": "the customer's bank or card said no",
    "capture_pending": "PayPal looks into it",
    "provider_not_configured": "the box is not set up for its provider any more",
    "customer_canceled": "the customer cancelled at the device, or let its time pass",
    "payment_aborted": "the till stopped waiting",
    "bank_unreachable": "the device cannot reach the card's bank",
    "offline_limit_exceeded": "the device cannot reach the card's bank, and the shop's offline limits do not allow it",
    "accepted_offline_unasked": "the device took the card without its bank, which nobody had allowed",
    "pad_not_asked": "the box stopped before the PIN pad was asked",
    "pad_moved_on": "something else was done at the PIN pad in between",
    "pad_refuses": "the PIN pad does not do this",
    "pad_full": "the PIN pad needs its end of day first",
    "pad_declined": "the PIN pad ended it without a payment",
    "card_unreadable": "the PIN pad could not read the card",
    "pad_tells_no_last_payment": "the PIN pad does not tell its last payment",
    "pad_busy": "somebody is at the PIN pad",
    "pad_silent": "the PIN pad does not answer",
    "pad_unknown": "the settings no longer name this PIN pad",
    "pad_said_nothing_of_it": "the PIN pad did not say what the card's bank answered",
    "cannot_forget": "the device sends it to the card's bank first",
    # The provider did not take our question.
    "source_unknown": "the card provider knows no such card: look at the tender's source",
    "resource_missing": "the card provider does not know that payment",
    "request_refused": "the card provider did not accept the question",
    "not_found": "the card provider does not know that payment",
    "credentials_refused": _NOT_SET_UP,
    "permission_refused": _NOT_SET_UP,
    "currency_unsupported": "cards are not taken in this currency",
    "amount_not_representable": "cards carry this currency in coarser steps",
    "amount_too_large": "it is more than one card payment may be",
    "reference_malformed": "the payment's name is not one that the card provider gives",
    # Nobody was asked, and nothing was charged.
    "provider_unreachable": "neither the card provider nor its device could be reached",
    "never_charged": "the card provider never charged it",
    "never_arrived": "the question never reached the card provider",
    # Being checked: it may have happened.
    "connection_lost": "the card provider's answer was lost",
    "connection_failed": "the card provider could not be reached",
    "deadline_passed": "the card provider did not answer in time",
    "answer_cut_short": _NOT_CLEAR,
    "answer_unreadable": _NOT_CLEAR,
    "answer_untyped": _NOT_CLEAR,
    "library_failed": _NOT_CLEAR,
    "decline_contradicts_itself": _NOT_CLEAR,
    "status_unknown": _NOT_CLEAR,
    "provider_failed": "the card provider has trouble of its own",
    "rate_limited": "the card provider has too much to do",
    "key_in_use": "the card provider is still working on it",
    "key_reused": "the card provider saw another question under the same key",
    "listing_failed": "the card provider's books could not be read",
    "listing_incomplete": "the card provider's books could not be read to the end",
    "still_held": "the card's bank still holds the money, neither taken nor given up",
    "clock_disagrees": "the card provider's clock and the box's are too far apart",
    "account_mode_differs": "the answer is from another account",
    "reference_differs": "the answer is about another payment",
    "payment_differs": "the answer is about another payment",
    "currency_differs": "the answer names another currency",
    "amount_differs": "the answer names another amount",
    "found_more_than_once": "the card provider's books show it twice: a person must look",
}
_BY_STATE: Final = {
    "declined": "the card's side said no",
    "not_charged": "nothing was charged",
    "declined_after_handover": "the card's bank said no after the goods were handed over",
    "being_checked": _NOT_CLEAR,
}


def reason(state: str, code: str) -> str:
    """A sentence for `code`, or for the state alone when the code is a provider's own."""
    words = REASONS.get(code, _BY_STATE.get(state, "no more is known"))
    return f"{words}; {_FOUND_OUT}" if state == "being_checked" else words

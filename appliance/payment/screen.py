"""Lets a valid payment through, or refuses it before money can move."""

from __future__ import annotations

from appliance.model.errors import Rejected
from appliance.model.payment import ClearedPayment, ValidPayment
from appliance.ports.admission import Admission


def screen(valid: ValidPayment, *, admission: Admission, takes_cards: bool) -> ClearedPayment:
    """Ask the box whether it may sell, and whether it can take this tender.

    Raises:
        Unavailable: the box takes no new sale now.
        Rejected: `cards_not_taken`: no provider is set up.
    """
    admission.admit()
    if valid.sale.card_tender is not None and not takes_cards:
        raise Rejected("cards_not_taken", "no card provider is set up on this box; use another tender")
    return ClearedPayment(valid=valid)

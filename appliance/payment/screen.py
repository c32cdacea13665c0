"""Lets a valid payment through, or refuses it before money can move."""

from __future__ import annotations

from collections.abc import Callable

from appliance.model.errors import Rejected
from appliance.model.payment import ClearedPayment, ValidPayment
from appliance.model.sale import TenderKind
from appliance.payment.screening.judge import Screener
from appliance.ports.admission import Admission


def screen(
    valid: ValidPayment, *, admission: Admission, takes: Callable[[TenderKind], bool], screener: Screener
) -> ClearedPayment:
    """Ask the box whether it may sell, whether it can take this tender, and the rules whether they let it through.

    Raises:
        Unavailable: the box takes no new sale now.
        ScreeningRefused: a rule lets no money move; what it said is not recorded yet.
        Rejected: `cards_not_taken`: no provider is set up.
    """
    admission.admit()
    tender = valid.sale.card_tender
    if tender is not None and not takes(tender.kind):
        raise Rejected("cards_not_taken", f"no provider for {tender.kind} is set up on this box; use another tender")
    return ClearedPayment(valid=valid, verdict=screener.sale(valid))


def screen_stored(valid: ValidPayment, *, admission: Admission, screener: Screener) -> ClearedPayment:
    """The same for a cash sale that was made already: rules watch it, none refuses.

    Raises:
        Unavailable: the box takes no new sale now.
    """
    admission.admit()
    return ClearedPayment(valid=valid, verdict=screener.stored_sale(valid))

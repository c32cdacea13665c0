"""Who can be asked on the counter of a shop of tests: its providers, card readers and PIN pads. Holds no test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from appliance.adapters.paypal import PayPalProvider
from appliance.model.ids import ProviderName, TerminalId
from appliance.model.operation import FIRST_PROVIDER
from appliance.model.sale import TenderKind
from appliance.payment.providers import SetUp
from appliance.payment.readers import Readers
from appliance.ports.provider import CardSource, Holds
from tests.fakes.forwards import FakeForwards
from tests.fakes.offers import FakeOffers
from tests.fakes.read_first import FakeReadFirst

PAYPAL: Final = ProviderName("paypal")
PIN_PAD: Final = ProviderName("pin_pad")


def providers_of(
    cards: Holds, admit: Callable[[], None], offers: FakeOffers | PayPalProvider | None, pads: FakeForwards | None
) -> dict[ProviderName, SetUp]:
    set_up = {FIRST_PROVIDER: SetUp(tender=TenderKind.CARD, provider=cards, holds=cards, admit=admit)}
    if offers is not None:
        set_up[PAYPAL] = SetUp(tender=TenderKind.PAYPAL, provider=offers, offers=offers, admit=lambda: None)
    if pads is not None:
        read_first = pads if isinstance(pads, FakeReadFirst) else None
        set_up[PIN_PAD] = SetUp(
            tender=TenderKind.PIN_PAD, provider=pads, forwards=pads, offers=read_first, admit=lambda: None
        )
    return set_up


def readers_of_tills() -> Readers:
    """One reader between two tills."""
    reader = CardSource("tmr_1")
    return Readers(
        bound={TerminalId("till-1"): reader, TerminalId("till-2"): reader},
        is_reader=lambda source: source.startswith("tmr_"),
        is_default=False,
        pads={TerminalId("till-1"): CardSource("counter"), TerminalId("till-2"): CardSource("bar")},
    )

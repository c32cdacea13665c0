"""What customers must see to agree at their provider, while they are waited for. In memory, never durable."""

from __future__ import annotations

from typing import Final

from appliance.model.ids import RequestKey

CUSTOMER_ASKED: Final = "customer_asked"
"""The code of a payment that is being checked because its customer has to agree."""


class Shown:
    """An address for each payment whose customer is waited for."""

    def __init__(self) -> None:
        self._addresses: dict[RequestKey, str] = {}

    def put(self, payment: RequestKey, address: str) -> None:
        """The customer of `payment` is waited for."""
        self._addresses[payment] = address

    def of(self, payment: RequestKey) -> str | None:
        """What to show, if the customer is waited for now."""
        return self._addresses.get(payment)

    def forget(self, payment: RequestKey) -> None:
        """The waiting is over."""
        self._addresses.pop(payment, None)

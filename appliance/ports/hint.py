"""What a provider tells by itself (a webhook), as the core sees it: a hint that something is worth reading again.

A hint moves no money and settles nothing. Even one that is genuine may be old, repeated or about somebody else's
payment; the provider's own answer to a question is the only evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from appliance.model.ids import OperationId, ProviderReference


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What a genuine webhook speaks of.

    Attributes:
        event: the provider's name of the event; the same one may come again.
        reference: the provider's name of the payment or refund, if it says one.
        log_origin, operation: whose it is, as we wrote beside the money; empty when it says nothing of that.
        says_paid: it claims that money was taken.
    """

    event: str
    reference: ProviderReference | None
    log_origin: str
    operation: OperationId | None
    says_paid: bool


class HintReader(Protocol):
    """Tells genuine webhooks of one provider from others."""

    def read(self, body: bytes, headers: Mapping[str, str]) -> Hint:
        """The hint in `body`, byte for byte as it was sent; header names are in lower case.

        Raises:
            Rejected: `webhook_forged`, `webhook_late` or `webhook_malformed`.
        """
        ...

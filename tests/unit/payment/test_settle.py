"""How soon a charge may be called absent."""

from __future__ import annotations

import msgspec
import pytest

from appliance.config.schema import Limits
from appliance.model.limits import PROVIDER_DEADLINE_MS


def test_no_shop_may_prove_absence_while_a_request_can_still_be_on_its_way() -> None:
    """Seen with a second of settling and a provider that took six: not_charged, and then a live charge."""
    with pytest.raises(msgspec.ValidationError, match="settle_ms"):
        msgspec.convert({"settle_ms": PROVIDER_DEADLINE_MS - 1}, Limits)
    assert msgspec.convert({"settle_ms": PROVIDER_DEADLINE_MS}, Limits).settle_ms == PROVIDER_DEADLINE_MS

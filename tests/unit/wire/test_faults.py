"""What is wrong with a shape is said without repeating what was sent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.wire.faults import explain
from appliance.wire.requests import PaymentBody

GOOD: dict[str, Any] = {"currency": "EUR", "tenders": [{"kind": "cash", "amount_minor": 1}]}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"4242": 1}, "Object contains an unknown member - at `$`"),
        ({"x` - at `$.4242": 1}, "Object contains an unknown member - at `$`"),
        ({"x\n4242": 1}, "Object contains an unknown member - at `$`"),
        ({"prices": "4242"}, "Expected one of the listed words - at `$.prices`"),
        (
            {"tenders": [{"kind": "4242", "amount_minor": 1}]},
            "Expected one of the listed words - at `$.tenders[0].kind`",
        ),
        ({"tenders": [{"kind": "cash"}]}, "Object missing required field `amount_minor` - at `$.tenders[0]`"),
        ({"reference": 4242}, "Expected `str`, got `int` - at `$.reference`"),
        ({"amount_minor": -4242}, "Expected `int` >= 0 - at `$.amount_minor`"),
    ],
)
def test_fault_is_told_by_the_schema_alone(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(GOOD | changed, PaymentBody)
    assert explain(caught.value) == told

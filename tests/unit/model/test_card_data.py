"""What looks like a card number never gets past the door, and is never repeated."""

from __future__ import annotations

import pytest

from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected

CARD_NUMBERS = ["4242424242424242", "4242 4242 4242 4242", "5555-5555-5555-4444", "378282246310005", "6011111111111117"]


@pytest.mark.parametrize("number", CARD_NUMBERS)
@pytest.mark.parametrize("around", ["{}", "paid with {} thanks", "x{}y"])
def test_card_number_is_refused_without_being_repeated(number: str, around: str) -> None:
    with pytest.raises(Rejected, match="card_number_refused") as refusal:
        refuse_card_numbers([around.format(number)])
    assert number not in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["", "order 12345", "4242424242424241", "EAN 4006381333931", "9999999999999995", "1" * 25]
)
def test_other_numbers_pass(text: str) -> None:
    refuse_card_numbers([text])

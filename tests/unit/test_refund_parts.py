"""What each part of a sale gives when the whole is refunded at the command line."""

from __future__ import annotations

import pytest

from appliance.model.ids import RequestKey, new_request_key
from appliance.wire.answers import PartAnswer, SaleAnswer
from provisioning.commands.outcome import CannotDo
from provisioning.commands.refund_parts import shares

KEYS = [new_request_key(1_790_000_000_000 + number, bytes(10)) for number in range(3)]


def sale(*left: int) -> SaleAnswer:
    parts = tuple(
        PartAnswer(key=str(key), state="approved", total_minor=1000, left_minor=minor)
        for key, minor in zip(KEYS, left, strict=True)
    )
    return SaleAnswer(key=str(KEYS[0]), parts=parts, paid_minor=3000, total_minor=3000, remaining_minor=0)


@pytest.mark.parametrize(
    ("amount", "given"),
    [
        (None, [(KEYS[2], None), (KEYS[0], None)]),
        (200, [(KEYS[2], 200)]),
        (300, [(KEYS[2], 300)]),
        (301, [(KEYS[2], 300), (KEYS[0], 1)]),
        (1300, [(KEYS[2], 300), (KEYS[0], 1000)]),
    ],
)
def test_the_newest_part_gives_first_and_none_more_than_it_has(
    amount: int | None, given: list[tuple[RequestKey, int | None]]
) -> None:
    assert shares(sale(1000, 0, 300), amount, currency="EUR") == given


@pytest.mark.parametrize(("left", "amount"), [((0, 0, 0), None), ((1000, 0, 300), 1301)])
def test_more_than_is_left_is_refused_before_anything_is_asked(left: tuple[int, int, int], amount: int | None) -> None:
    with pytest.raises(CannotDo, match=r"nothing is left|only 13\.00 EUR is left"):
        shares(sale(*left), amount, currency="EUR")

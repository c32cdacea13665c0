"""Bugs of sales that are paid in parts."""

from __future__ import annotations

import sqlite3

from appliance.payment import part_rows
from appliance.payment.parts import PartAllowed
from appliance.till import part_totals
from tests.world.bug import bug, put


@bug("The till knows what is left to pay, so the box need not.", seed=14)
def let_parts_take_more_than_the_total() -> None:
    put(PartAllowed, _require_room=lambda *_: None)


@bug("The card took less than it was asked for, and the sale is paid all the same.", seed=3)
def count_a_partial_approval_in_full() -> None:
    put(part_rows, took_less=lambda *_: None)


@bug("A card that was accepted offline has paid its part, whatever its bank says later.", seed=162)
def count_a_lost_part() -> None:
    def nothing(_: sqlite3.Connection, __: bytes, ___: int) -> dict[str, int]:
        return {}

    put(part_totals, lose=nothing)

"""Bugs of vouchers."""

from __future__ import annotations

import sqlite3

from appliance.model.voucher import VoucherId
from appliance.payment import voucher_rows
from appliance.till.guards import VoucherUntouched
from tests.world.bug import bug, put


@bug("The voucher was worth enough when the till looked.", seed=6)
def let_a_voucher_be_spent_twice() -> None:
    right = voucher_rows.require_voucher
    seen: dict[bytes, voucher_rows.StandingVoucher] = {}

    def remembered(connection: sqlite3.Connection, voucher: VoucherId) -> voucher_rows.StandingVoucher:
        return seen.setdefault(voucher, right(connection, voucher))

    put(voucher_rows, require_voucher=remembered)


@bug("The card beside it was declined; the customer comes again with the voucher anyway.", seed=6)
def keep_a_voucher_beside_a_declined_card() -> None:
    right = voucher_rows._put_back

    def kept(connection: sqlite3.Connection, payment: bytes, amount: int | None) -> None:
        if amount is not None:
            right(connection, payment, amount)

    put(voucher_rows, _put_back=kept)


@bug("Taking back a voucher needs no look at it: nobody brings one that is spent.", seed=194)
def take_back_a_spent_voucher() -> None:
    put(VoucherUntouched, check=lambda self, connection: self.fresh.check(connection))

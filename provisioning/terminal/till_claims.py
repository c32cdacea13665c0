"""What an answer about a drawer says, in the words that its entry proves: one text, compared as a whole."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.wire import till_entries

ACT_OF: Final = {
    till_entries.DRAWER_FLOAT: "float",
    till_entries.DRAWER_PAID_IN: "paid_in",
    till_entries.DRAWER_PAID_OUT: "paid_out",
    till_entries.DRAWER_NO_SALE: "no_sale",
    till_entries.DRAWER_COUNT: "count",
}


def act_state(act: str, drawer: str, amount_minor: int) -> str:
    """An act, its drawer and its amount."""
    return f"{act} {amount_minor} {drawer}"


def voucher_state(act: str, amount_minor: int, voucher: str, expires_ms: int | None) -> str:
    """A voucher that was issued, or taken back (its end is no part of that)."""
    return f"voucher {act} {amount_minor} {voucher} {expires_ms if act == 'issue' else None}"


def token_state(act: str, name: str) -> str:
    """A provider's token that was kept or forgotten, by its name."""
    return f"token {act} {name}"


def period_state(period: till_entries.PeriodFacts) -> str:
    """A closed period with every figure of its report."""
    return f"closed {hashlib.sha256(cbor.encode_ordered(msgspec.to_builtins(period))).hexdigest()}"

"""The words of reconciliation: a movement as we recorded it, what can be wrong between two books, and who must act."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.model.ids import OperationId


class BreakType(StrEnum):
    """What differs between the log and a provider's statement; the values are stable codes."""

    MISSING_HERE = "missing_here"  # the provider moved money that no entry speaks of
    MISSING_THERE = "missing_there"  # the provider confirmed it to us, and does not list it
    AMOUNT = "amount"
    CURRENCY = "currency"
    FEE = "fee"  # above what the settings allow, or gross, fee and net do not add up
    LATE = "late"  # one side has it, the other may still come
    DOUBLED = "doubled"  # one operation of ours moved money twice


class Owner(StrEnum):
    """Who must act before a break can close."""

    SHOP = "shop"
    PROVIDER = "provider"
    VENDOR = "vendor"  # whoever makes this box: its records are wrong


LATE_DAYS: Final = 2
"""So many shop days one side may be behind the other; then it is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Card money that a confirmed operation moved, by the log; negative when it went back to the card.

    Attributes:
        payment: key of the payment, 16 bytes.
        day: the shop day whose reconciliation took it first.
    """

    operation: OperationId
    payment: bytes
    amount_minor: int
    currency: str
    day: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeRule:
    """The most that a provider may keep of one movement."""

    basis_points_max: int
    fixed_minor_max: int

    def allows(self, gross_minor: int, fee_minor: int) -> bool:
        """Whether the fee is within the rule; one that is given back is measured alike."""
        most = -(-abs(gross_minor) * self.basis_points_max // 10_000) + self.fixed_minor_max
        return abs(fee_minor) <= most

"""Money: integer minor units of one ISO 4217 currency. No float ever touches it.

The table of exponents is the only one in the product; adapters convert to a provider's own units.

Source: ISO 4217 list one, as amended through 2024-06.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.model.errors import Rejected
from appliance.model.invariants import ensure
from appliance.model.limits import AMOUNT_MINOR_MAX

_TWO_DIGITS: Final = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY "
    "COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS "
    "INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR "
    "MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD "
    "SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD YER ZAR ZMW ZWG"
)
_NO_DIGITS: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DIGITS: Final = "BHD IQD JOD KWD LYD OMR TND"

EXPONENTS: Final[dict[str, int]] = {
    **dict.fromkeys(_TWO_DIGITS.split(), 2),
    **dict.fromkeys(_NO_DIGITS.split(), 0),
    **dict.fromkeys(_THREE_DIGITS.split(), 3),
}


def exponent(currency: str) -> int:
    """Digits after the point of `currency`. Raises Rejected for an unknown code."""
    digits = EXPONENTS.get(currency)
    if digits is None:
        raise Rejected("currency_unknown", "the currency must be an ISO 4217 code in capitals, such as EUR")
    return digits


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """A signed amount in minor units. Arithmetic refuses to mix currencies."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        exponent(self.currency)
        if not -AMOUNT_MINOR_MAX <= self.amount_minor <= AMOUNT_MINOR_MAX:
            raise Rejected("amount_too_large", f"an amount must be at most {AMOUNT_MINOR_MAX} minor units")

    def __add__(self, other: Money) -> Money:
        ensure(self.currency == other.currency, "amounts are added in one currency")
        return Money(self.amount_minor + other.amount_minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        ensure(self.currency == other.currency, "amounts are subtracted in one currency")
        return Money(self.amount_minor - other.amount_minor, self.currency)

    def __str__(self) -> str:
        """For people: `12.50 EUR`."""
        digits = EXPONENTS[self.currency]
        sign = "-" if self.amount_minor < 0 else ""
        whole, part = divmod(abs(self.amount_minor), 10**digits)
        return f"{sign}{whole}.{part:0{digits}d} {self.currency}" if digits else f"{sign}{whole} {self.currency}"


def round_to(amount_minor: int, step_minor: int) -> int:
    """The multiple of `step_minor` nearest to a non-negative amount; halves round up, as Swiss and Swedish cash do."""
    ensure(amount_minor >= 0 and step_minor > 0, "cash rounding takes a non-negative amount and a positive step")
    return (amount_minor + step_minor // 2) // step_minor * step_minor

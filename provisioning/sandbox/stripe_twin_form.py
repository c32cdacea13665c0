"""How a request of the Stripe twin is read and how a refusal is worded; plain functions, no state.

Source: docs.stripe.com/api/errors, docs.stripe.com/error-codes, docs.stripe.com/api/metadata,
docs.stripe.com/currencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Parameters = Mapping[str, str]

_THREE_DECIMALS: Final = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
_WHOLE_HUNDREDS: Final = frozenset({"isk"})
_AMOUNT_MAX: Final = 99_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Status and JSON. `is_remembered`: execution began, so the answer is kept under the idempotency key."""

    status: int
    body: dict[str, Any]
    is_remembered: bool = True


class InvalidRequest(Exception):
    """The parameters failed validation: nothing was executed, nothing is remembered."""

    def __init__(self, message: str, *, code: str = "", parameter: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.answer = refusal(message, code=code, parameter=parameter, status=status, is_remembered=False)


def refusal(
    message: str,
    *,
    code: str = "",
    parameter: str = "",
    status: int = 400,
    kind: str = "invalid_request_error",
    is_remembered: bool = True,
    **more: Any,
) -> Answered:
    """An error object as Stripe words it."""
    error: dict[str, Any] = {"message": message, "type": kind, **more}
    error |= {name: value for name, value in (("code", code), ("param", parameter)) if value}
    return Answered(status=status, body={"error": error}, is_remembered=is_remembered)


def refuse_unknown(parameters: Parameters, names: frozenset[str], prefixes: tuple[str, ...] = ()) -> None:
    for name in parameters:
        if name not in names and not name.startswith(prefixes or ("\0",)):
            raise InvalidRequest(f"Received unknown parameter: {name}", code="parameter_unknown", parameter=name)


def required(parameters: Parameters, name: str) -> str:
    if not parameters.get(name):
        raise InvalidRequest(f"Missing required param: {name}.", code="parameter_missing", parameter=name)
    return parameters[name]


def amount_of(parameters: Parameters, currency: str) -> int:
    text = required(parameters, "amount")
    if not text.isascii() or not text.isdigit():
        raise InvalidRequest(f"Invalid integer: {text}", code="parameter_invalid_integer", parameter="amount")
    amount = int(text)
    if not 1 <= amount <= _AMOUNT_MAX:
        raise InvalidRequest("Invalid amount.", code="amount_too_large" if amount else "amount_too_small")
    if (currency in _WHOLE_HUNDREDS and amount % 100) or (currency in _THREE_DECIMALS and amount % 10):
        raise InvalidRequest("Invalid amount for this currency.", code="invalid_charge_amount", parameter="amount")
    return amount


def metadata_of(parameters: Parameters) -> dict[str, str]:
    found = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in parameters.items()
        if name.startswith("metadata[")
    }
    if len(found) > 50 or any(len(name) > 40 or len(value) > 500 for name, value in found.items()):
        raise InvalidRequest("Metadata has at most 50 keys of 40 and values of 500 characters.", parameter="metadata")
    return found


def array_of(parameters: Parameters, name: str) -> list[str]:
    return [value for key, value in parameters.items() if key.startswith(f"{name}[")]

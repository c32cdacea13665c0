"""JSON as far as a signature may stand on it: one meaning, bounded, and nothing that CBOR of ours could not say.

Refuses what parsers read differently: duplicate members, floats, NaN, integers beyond 64 bits, lone surrogates. Order
and spaces are free, so received bytes are never compared or hashed: the value is encoded again as CBOR for that.
"""

from __future__ import annotations

import json
from typing import Final, NoReturn, TypeAlias, Union

from appliance.model.errors import Rejected

Value: TypeAlias = Union[bool, int, str, "list[Value]", "dict[str, Value]", None]

DEPTH_MAX: Final = 16
_INTEGER_DIGITS_MAX: Final = 20
_INTEGER_MAX: Final = (1 << 64) - 1


def decode(data: bytes, *, size_max: int, depth_max: int = DEPTH_MAX) -> Value:
    """The value of a JSON text in UTF-8.

    Raises:
        Rejected: `json_too_large`, `json_too_deep`, `json_malformed`, `json_duplicate_key`, `json_forbidden_number`.
    """
    if len(data) > size_max:
        raise Rejected("json_too_large", f"expected at most {size_max} bytes, saw {len(data)}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except UnicodeDecodeError as cause:
        raise Rejected("json_malformed", f"not UTF-8 at offset {cause.start}") from cause
    except json.JSONDecodeError as cause:
        # The parser's message holds no input, its exception does: it is not chained.
        raise Rejected("json_malformed", f"{cause.msg} at character {cause.pos}") from None
    except RecursionError:
        raise Rejected("json_too_deep", f"expected at most {depth_max} nested containers") from None
    return _checked(value, depth_max)


def _members(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Rejected("json_duplicate_key", f"expected {len(pairs)} different members, saw {len(members)}")
    return members


def _integer(digits: str) -> int:
    # int() of a long string is quadratic: bound the digits first. -0 is not an integer that CBOR can say.
    if len(digits.lstrip("-")) > _INTEGER_DIGITS_MAX or digits == "-0":
        raise Rejected("json_forbidden_number", "expected an integer of at most 64 bits, not -0")
    value = int(digits)
    if not -_INTEGER_MAX - 1 <= value <= _INTEGER_MAX:
        raise Rejected("json_forbidden_number", "expected an integer of at most 64 bits")
    return value


def _refuse_number(_: str) -> NoReturn:
    raise Rejected("json_forbidden_number", "expected an integer; write amounts in minor units")


def _checked(value: Value, depth_left: int) -> Value:
    if isinstance(value, str):
        _check_text(value)
        return value
    if not isinstance(value, list | dict):
        return value
    if depth_left == 0:
        raise Rejected("json_too_deep", "containers nest deeper than allowed")
    if isinstance(value, dict):
        for key in value:
            _check_text(key)
    for item in value.values() if isinstance(value, dict) else value:
        _checked(item, depth_left - 1)
    return value


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Rejected("json_malformed", "an escaped lone surrogate is not text") from None

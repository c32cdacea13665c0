"""A value that must not be seen: it prints as a placeholder and compares in constant time.

It lives in `config` because settings are where secrets enter the process; logs redact by this type. Python cannot
promise zeroised memory, so nothing here claims to wipe anything.
"""

from __future__ import annotations

import hmac
from typing import Final, Never, final

from typing_extensions import override

PLACEHOLDER: Final = "[secret]"


@final
class Secret:
    """Bytes behind a door: only `reveal()` gives them out, so that every reader is found by one search.

    Rules:
    * `repr`, `str`, `format`, pickling and logs never show the value or its length.
    * `==` takes the same time wherever the difference lies; there is no hash, so no dictionary leaks by timing.
    """

    __slots__ = ("_octets",)

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def reveal(self) -> bytes:
        """The value itself, for the one call that needs it."""
        return self._octets

    def reveal_text(self) -> str:
        """The value as UTF-8 text, for keys and PINs that vendors take as strings."""
        return self._octets.decode()

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._octets, other._octets)

    __hash__ = None  # type: ignore[assignment]  # the documented way to say "not hashable" that mypy does not know

    @override
    def __repr__(self) -> str:
        return PLACEHOLDER

    @override
    def __format__(self, _spec: str) -> str:
        return PLACEHOLDER

    @override
    def __reduce__(self) -> Never:
        raise TypeError("a secret is not serialised")

"""Two waits at once. Their tasks end with the call: nothing is left running behind the caller's back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def both(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """The results of both; when one fails, its error, after the other has ended too. Cancelling cancels both."""
    of_first, of_second = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(of_first, BaseException):
        raise of_first
    if isinstance(of_second, BaseException):
        raise of_second
    return of_first, of_second

"""What goes wrong at a twin, and when: a script that tests and `tillstone sandbox break network` write.

Must never touch money: a fault changes whether and how an answer travels, never what was charged.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

FaultName = Literal[
    "drop_request",  # the connection closes, nothing was processed
    "drop_reply",  # processed, then the connection closes
    "delay",  # waits `delay_ms` before processing; the key is in use meanwhile
    "hold",  # waits until faults are cleared, then processes; the key is in use meanwhile
    "hang",  # never answers, nothing processed; ends when faults are cleared
    "hang_after_processing",  # processed, never answers
    "error_then_success",  # 500 before processing: nothing is remembered, the next try works
    "error_after_processing",  # processed, answers 500, and remembers that 500 under the key
    "truncated_json",  # processed; a whole HTTP answer of status 200 with half of the JSON
    "truncated_reply",  # processed; the connection closes in the middle of the announced body
    "rate_limited",  # 429 before processing
    "wrong_amount",  # processed; the answer claims another amount
    "wrong_account",  # processed; the answer is about a payment of somebody else
    "wrong_payment",  # processed; the answer is about another payment of the same shop
]

BEFORE: Final = frozenset({"drop_request", "hang", "error_then_success", "rate_limited"})
"""Faults that act before anything is processed."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the script.

    Attributes:
        path: where it strikes, a prefix of the path such as /v1/payment_intents.
        method: POST, GET, or empty for both.
        times: how many requests it strikes before it is used up.
    """

    fault: FaultName
    path: Annotated[str, Meta(pattern=r"\A(?:/api)?/v[12]/[a-z_/0-9A-Z]*\Z")] = "/v1/"
    method: Literal["", "GET", "POST"] = ""
    times: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    delay_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0


class Outage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every request is dropped unprocessed while it is on; `for_ms` of the twin's time, or until it is switched off."""

    is_on: bool
    for_ms: Annotated[int, Meta(ge=1)] | None = None


@dataclass(slots=True)
class FaultScript:
    """Lines in the order they came; the first that fits a request is taken and counted down."""

    _outage_ends_ms: float = 0.0
    _lines: list[tuple[Fault, int]] = field(default_factory=list)
    _cleared: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, fault: Fault) -> None:
        self._lines.append((fault, fault.times))

    def set_outage(self, outage: Outage, now_ms: int) -> None:
        ends_ms = math.inf if outage.for_ms is None else now_ms + outage.for_ms
        self._outage_ends_ms = ends_ms if outage.is_on else 0.0

    def clear(self) -> None:
        """Forget all lines, end the outage, let everything that hangs go (its connection closes)."""
        self._outage_ends_ms = 0.0
        self._lines.clear()
        self._cleared.set()
        self._cleared = asyncio.Event()

    def take(self, method: str, path: str, now_ms: int) -> Fault | None:
        """The fault that strikes this request, if any."""
        if now_ms < self._outage_ends_ms:
            return Fault(fault="drop_request")
        for index, (fault, left) in enumerate(self._lines):
            if path.startswith(fault.path) and fault.method in ("", method):
                if left == 1:
                    del self._lines[index]
                else:
                    self._lines[index] = (fault, left - 1)
                return fault
        return None

    async def hang(self) -> None:
        """Wait until `clear`."""
        await self._cleared.wait()

    async def keep_waiting(self, fault: Fault | None) -> None:
        """Wait as a fault says that strikes just before processing."""
        if fault is not None and fault.fault == "delay":
            await asyncio.sleep(fault.delay_ms / 1000)
        if fault is not None and fault.fault == "hold":
            await self.hang()


def drop(request: web.Request) -> web.Response:
    """Close the connection; the answer below is never written."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)

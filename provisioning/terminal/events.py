"""The box's event stream, read line by line (WHATWG HTML section 9.2, the part that the box uses).

Owns the framing and the patience with a silent line. Must never reconnect: the client does, with the last number seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import aiohttp
import msgspec

from appliance.model.errors import OutcomeUnknown, Unavailable
from appliance.wire.answers import Event

SILENCE_MS_MAX: Final = 45_000
"""Three keep-alives of 15 s: then the line is dead though nobody said so."""
_FIELD: Final = b"data:"


async def read_events(response: aiohttp.ClientResponse) -> AsyncGenerator[Event, None]:
    """Every event of an open stream, until the box closes it.

    Raises:
        Unavailable: `events_ended`: the line broke or fell silent.
        OutcomeUnknown: `answer_unreadable`.
    """
    while True:
        try:
            async with asyncio.timeout(SILENCE_MS_MAX / 1_000):
                line = await response.content.readline()
        except (aiohttp.ClientError, TimeoutError, ValueError) as cause:
            raise Unavailable("events_ended", f"the event stream broke: {type(cause).__name__}") from cause
        if not line:
            raise Unavailable("events_ended", "the box closed the event stream")
        if line.startswith(_FIELD):  # `id` and `event` repeat what the data says; comments keep the line alive
            try:
                event = msgspec.json.decode(line[len(_FIELD) :].strip(), type=Event)
            except msgspec.MsgspecError as cause:
                raise OutcomeUnknown("answer_unreadable", "expected an Event in the stream") from cause
            yield event

"""The shop's network between a till and the box: the client's own bytes, carried without a socket, and not always.

Owns what happens on the way. Must never read what it carries.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from typing_extensions import override

from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.runtime.deadline import Deadline
from provisioning.terminal.link import Link, Reply
from provisioning.terminal.signing import Encoding
from tests.world.box import WorldBox
from tests.world.loop import Machine, WorldLoop, hand_over

FAULTS: Final[dict[str, int]] = {
    "no_connection": 3,
    "lose_request": 3,
    "lose_reply": 6,
    "double": 4,  # delivered twice, the second time a little later
    "late": 3,  # delivered when the till may have given up
}


@dataclass(slots=True, kw_only=True)
class Lan:
    """How the shop's network is now, and where the box is."""

    loop: WorldLoop
    randomness: random.Random
    box: Callable[[], WorldBox | None]
    note: Callable[[str], None]
    trouble: float = 0.0
    wire: Machine = field(default_factory=lambda: Machine(name="lan", is_wire=True))

    def fault(self) -> str:
        if self.randomness.random() >= self.trouble:
            return ""
        return self.randomness.choices(list(FAULTS), list(FAULTS.values()))[0]


class WorldLink(Link):
    """The client's link; event streams are not offered, so the client polls, as it must know how to."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan

    @override
    async def post(self, path: str, body: bytes, encoding: Encoding, deadline: Deadline) -> Reply:
        lan, fault = self._lan, self._lan.fault()
        verb = path.removeprefix("/v1/")
        if fault:
            lan.note(f"{verb} meets {fault}")
        if fault == "no_connection" or not _open_box(lan):
            await asyncio.sleep(lan.randomness.uniform(0.001, 0.02))
            raise Unavailable("box_unreachable", "no connection to the box")
        reply: asyncio.Future[tuple[int, bytes]] = lan.loop.create_future()
        if fault != "lose_request":
            travel_s = lan.randomness.uniform(0.5, 12.0) if fault == "late" else lan.randomness.uniform(0.0005, 0.01)
            lan.loop.on(lan.wire, travel_s, lambda: self._deliver(verb, body, None if fault == "lose_reply" else reply))
        if fault == "double":
            again_s = lan.randomness.uniform(0.001, 5.0)
            lan.loop.on(lan.wire, again_s, lambda: self._deliver(verb, body, None))
        try:
            async with deadline.scope():
                status, answered = await reply
        except TimeoutError as cause:
            raise OutcomeUnknown("answer_lost", f"no answer to {verb} in time") from cause
        retry_after_ms = 1_000 if status == 503 else None
        return Reply(status=status, content_type="application/cbor", body=answered, retry_after_ms=retry_after_ms)

    @override
    def stream(self, path: str, authorization: str, deadline: Deadline) -> NoReturn:
        raise Rejected("no_streams", "the world offers no event streams")

    def _deliver(self, verb: str, body: bytes, reply: asyncio.Future[tuple[int, bytes]] | None) -> None:
        box = _open_box(self._lan)
        if box is None:
            if reply is not None and not reply.done():
                reply.set_exception(OutcomeUnknown("answer_lost", "the connection was reset"))
            return
        self._lan.loop.spawn(box.life.machine, self._serve(box, verb, body, reply), f"serve {verb}")

    async def _serve(
        self, box: WorldBox, verb: str, body: bytes, reply: asyncio.Future[tuple[int, bytes]] | None
    ) -> None:
        answered = await box.serve(verb, body)
        if reply is not None:
            lan = self._lan
            lan.loop.on(lan.wire, lan.randomness.uniform(0.0005, 0.01), lambda: hand_over(reply, answered))


def _open_box(lan: Lan) -> WorldBox | None:
    box = lan.box()
    return box if box is not None and box.is_open and box.life.machine.is_alive else None

"""Who is connected to one door, and who makes room when it is full.

A newcomer always gets in while somebody is idle: first go those who never sent a request, the oldest first, then
whoever has been silent for longest. So idle connections, however many a stranger opens, neither use up descriptors nor
keep a till out; and an address has a share of its own, so that one stranger displaces none but itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from appliance.api.connection import Connection


class Crowd:
    """The open connections of one door, in the order in which they came."""

    def __init__(self, *, total_max: int, address_max: int, on_displaced: Callable[[], None]) -> None:
        self._total_max = total_max
        self._address_max = address_max
        self._on_displaced = on_displaced
        self._open: dict[Connection, None] = {}
        self._by_address: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, newcomer: Connection) -> bool:
        """Count `newcomer` in; False when the door, or its address's share, is full of requests at work."""
        neighbours = self._by_address.get(newcomer.address, {})
        if len(neighbours) >= self._address_max:
            has_room = self._make_room(neighbours)
        else:
            has_room = len(self._open) < self._total_max or self._make_room(self._open)
        if has_room:
            self._open[newcomer] = None
            self._by_address.setdefault(newcomer.address, {})[newcomer] = None
        return has_room

    def leave(self, connection: Connection) -> None:
        """Count it out; the second time is the same as the first."""
        if connection in self._open:
            del self._open[connection]
            neighbours = self._by_address[connection.address]
            del neighbours[connection]
            if not neighbours:
                del self._by_address[connection.address]

    def _make_room(self, among: Iterable[Connection]) -> bool:
        displaced = _next_to_go(among)
        if displaced is None:
            return False
        self.leave(displaced)
        displaced.hang_up()
        self._on_displaced()
        return True


def _next_to_go(among: Iterable[Connection]) -> Connection | None:
    chosen: Connection | None = None
    for each in among:
        if not each.is_idle:
            continue
        if not each.has_spoken:
            return each
        if chosen is None or each.silent_since < chosen.silent_since:
            chosen = each
    return chosen

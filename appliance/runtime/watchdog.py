"""Tells the service manager that we live, and notices when the event loop stands still.

The keep-alive is sent from the loop itself, so a loop that hangs stops sending and the manager restarts us: crash-only.
Speaks the sd_notify protocol directly (one datagram to a unix socket). Never blocks: a full socket loses a status line.

Source: sd_notify(3), systemd.service(5) WatchdogSec.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

from appliance.ports.clock import Clock
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics

LAG_MS_MAX: Final = 50
_PROBE_MS: Final = 100
_STATUS_CHARACTERS_MAX: Final = 200


class ServiceManager:
    """The socket of the service manager; silent where there is none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading "@" stands for Linux's abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "")
        # Half the manager's patience, as sd_watchdog_enabled(3) advises.
        self.keep_alive_every_ms = (
            int(microseconds) // 2_000 if microseconds.isascii() and microseconds.isdigit() else 0
        )

    def ready(self) -> None:
        """Boot has ended and the doors are open."""
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def keep_alive(self) -> None:
        self._send("WATCHDOG=1")

    def status(self, sentence: str) -> None:
        """One line for people, shown by `systemctl status`."""
        self._send("STATUS=" + sentence.replace("\n", " ")[:_STATUS_CHARACTERS_MAX])

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as manager:
            try:
                manager.sendto(message.encode(), self._address)
            except OSError:
                # The manager is gone or busy. It will see the silence; there is nothing else to tell it with.
                return


class Watchdog:
    """A service that measures how late the loop wakes it, and keeps the manager's watchdog fed."""

    def __init__(self, *, manager: ServiceManager, clock: Clock, metrics: Metrics, log: Log) -> None:
        self._manager = manager
        self._clock = clock
        self._metrics = metrics
        self._log = log

    async def run(self) -> None:
        """Until cancelled."""
        fed_ms = self._clock.monotonic_ms()
        while True:
            before_ms = self._clock.monotonic_ms()
            await self._clock.sleep(_PROBE_MS)
            now_ms = self._clock.monotonic_ms()
            self._judge(now_ms - before_ms - _PROBE_MS)
            if 0 < self._manager.keep_alive_every_ms <= now_ms - fed_ms + _PROBE_MS:
                self._manager.keep_alive()
                fed_ms = now_ms

    def _judge(self, lag_ms: int) -> None:
        self._metrics.loop_lag_seconds.set(max(0, lag_ms) / 1_000)
        if lag_ms > LAG_MS_MAX:
            self._metrics.loop_blocked.inc()
            self._log.warning("loop.blocked", lag_ms=lag_ms)

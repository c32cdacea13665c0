"""Keep an open shop running until somebody stops it: restart what falls, obey the control door, show sales.

Owns the loop. Its rules:
- one thread; an order is carried out whole before the next is read;
- a child that ended by itself is started again after a pause, as the device's service manager does; one that was
  ended by order stays down until it is ordered up.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Final

import msgspec

from appliance.model.errors import TillstoneError
from provisioning.local_door import LocalDoor
from provisioning.sandbox.children import ChildFailed
from provisioning.sandbox.control import Done, Order, listen, read_line
from provisioning.sandbox.log_copy import last_seq
from provisioning.sandbox.screen import Screen
from provisioning.sandbox.shop import CHILDREN, ChildName, RunningShop
from provisioning.swtpm import SwtpmError

LOOK_S: Final = 0.25
RESTART_PAUSE_S: Final = 0.5
RESTART_PAUSE_S_MAX: Final = 16.0
SALES_SHOWN_MAX: Final = 100
NAMES: Final[dict[ChildName, str]] = {
    "tpm": "the TPM",
    "stripe": "the Stripe twin",
    "paypal": "the PayPal twin",
    "coinbase": "the Coinbase twin",
    "relay": "the webhook relay",
    "pad": "the PIN pad",
    "appliance": "the box",
}
_DONE: Final = {"kill": "was killed", "stop": "was stopped", "start": "was started"}
_ORDER_S_MAX: Final = 2.0


class Supervisor:
    """The loop over one open shop."""

    def __init__(self, *, shop: RunningShop, screen: Screen) -> None:
        self._shop = shop
        self._screen = screen
        self._local = LocalDoor(shop.folder.data)
        self._shown = -1
        self._pause_s: dict[ChildName, float] = dict.fromkeys(CHILDREN, RESTART_PAUSE_S)
        self._start_at: dict[ChildName, float] = {}

    def run(self) -> None:
        """Return never; Ctrl-C and SIGTERM come as KeyboardInterrupt."""
        # Sales of earlier days are in the log; the screen shows those that happen while somebody looks.
        self._shown = last_seq(self._shop.folder.data)
        with listen(self._shop.folder) as listener:
            while True:
                readable, _, _ = select.select([listener], [], [], LOOK_S)
                if readable:
                    connection, _ = listener.accept()
                    with connection:
                        self._obey(connection)
                self._raise_fallen()
                self._show_sales()

    def _obey(self, connection: socket.socket) -> None:
        connection.settimeout(_ORDER_S_MAX)
        try:
            order = msgspec.json.decode(read_line(connection), type=Order)
            connection.sendall(msgspec.json.encode(self._carry_out(order)) + b"\n")
        except (OSError, msgspec.MsgspecError) as trouble:
            self._screen.note(f"an order could not be read or answered: {trouble}")

    def _carry_out(self, order: Order) -> Done:
        try:
            match order.do:
                case "kill":
                    self._shop.kill(order.what)
                case "stop":
                    self._shop.stop(order.what)
                case "start":
                    self._shop.start(order.what, mounts_of=order.mounts_of)
        except (ChildFailed, SwtpmError) as trouble:
            return Done(fault=str(trouble))
        self._screen.note(f"{NAMES[order.what]} {_DONE[order.do]}, as another window asked")
        return Done()

    def _raise_fallen(self) -> None:
        now = time.monotonic()
        for name in self._shop.fallen():
            due = self._start_at.setdefault(name, now + self._pause_s[name])
            if now < due:
                continue
            del self._start_at[name]
            self._screen.note(f"{NAMES[name]} had ended by itself; starting it again")
            try:
                self._shop.stop(name)
                self._shop.start(name)
                self._pause_s[name] = RESTART_PAUSE_S
            except (ChildFailed, SwtpmError) as trouble:
                self._pause_s[name] = min(2 * self._pause_s[name], RESTART_PAUSE_S_MAX)
                self._screen.note(str(trouble))

    def _show_sales(self) -> None:
        if self._screen.is_quiet or "appliance" not in self._shop.running():
            return
        try:
            sales = self._local.recent(after=self._shown, limit=SALES_SHOWN_MAX)
        except TillstoneError:
            return  # it is just going down or coming up; the sales are in the log
        for sale in sales:
            self._shown = max(self._shown, int(sale["seq"]))
            self._screen.sale(sale)

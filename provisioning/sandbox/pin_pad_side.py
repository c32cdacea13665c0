"""The PIN pad of a sandbox: a twin as a process of its own, whose folder says who stands there and what it took.

    customer      one word of `customers.py`; read at each command, so that whoever writes it decides
    money.json    what moved at the PIN pad, which outlives it like the memory of a real one

Must never listen on anything but 127.0.0.1.
"""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import Final

import msgspec

from provisioning.sandbox.customers import CUSTOMERS_AT_PAD
from provisioning.sandbox.pin_pad_twin import PinPadTwin, TakenPayment
from provisioning.sandbox.printer_twin import on_tcp
from provisioning.settings_file import PinPad
from provisioning.terminal.durable import write_durably

NAME: Final = "counter"
_DIGITS: Final = "000000"


def make_pin_pad_side(folder: Path, *, port: int, tills: tuple[str, ...]) -> PinPad:
    """The password that the box needs, and what the settings say; the customer is who was set last."""
    password = folder / "password"
    if not password.exists():
        write_durably(password, _DIGITS.encode() + b"\n")
    return PinPad(name=NAME, place=f"tcp:127.0.0.1:{port}", tills=tills, password=password)


def set_customer(folder: Path, what: str) -> None:
    """Let this customer stand at the PIN pad from now on."""
    write_durably(folder / "customer", what.encode() + b"\n")


def open_twin(folder: Path) -> PinPadTwin:
    """The twin with what it took before."""
    money = folder / "money.json"
    taken = msgspec.json.decode(money.read_bytes(), type=list[TakenPayment]) if money.exists() else []
    twin = PinPadTwin(is_framed=False, taken=taken, trace=max((each.trace for each in taken), default=0))
    twin.customer = lambda: _customer(folder / "customer")
    twin.on_taken = lambda: write_durably(money, msgspec.json.encode(twin.taken))
    return twin


def _customer(file: Path) -> str:
    said = file.read_text().strip() if file.exists() else ""
    return said if said in CUSTOMERS_AT_PAD else "approve"


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="A PIN pad that is not there.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--folder", type=Path, required=True, help="holds its money and its customer")
    arguments = parser.parse_args()
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # before the thread that serves is born
    twin = open_twin(arguments.folder)
    with on_tcp(twin.take, arguments.port, opened=twin.mend_line) as address:
        print(json.dumps({"port": int(address.rpartition(":")[2])}), flush=True)
        signal.sigwait(stops)


if __name__ == "__main__":
    main()

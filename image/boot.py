"""`make image-boot`: start the developer image, sell once through its door, hand its console to a person.

Owns that story and its times. A rig drives `machine.py` and `console.py` itself.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import subprocess
import sys
import termios
import time
import tty
from dataclasses import replace
from pathlib import Path
from typing import Final

from appliance.model.ids import terminal_id
from appliance.runtime.clock import SystemClock
from appliance.runtime.deadline import Deadline
from image.build import open_tools
from image.console import Console, ConsoleSilent
from image.keys import ensure_keys
from image.machine import Machine, forwarded, prepare, start
from image.workshop import say
from provisioning.terminal.home import TerminalHome
from provisioning.terminal.pairing import Invitation, pair, read_qr

POS_PORT: Final = 18443
TILL: Final = "bench-till"
_POS_INSIDE: Final = 8443
# Emulated on a machine that has other work too; an idle one needs a minute.
START_S_MAX: Final = 900.0
_TYPED_S_MAX: Final = 60.0
_PAIR_MS_MAX: Final = 60_000
_LEAVE: Final = b"\x1d"  # Ctrl-]


def boot(*, out: Path, keys_folder: Path, has_smm: bool, is_kept: bool) -> None:
    """Start the machine of `out/developer`, sell, tell the times.

    Args:
        is_kept: stay at the machine's console until the person leaves or the machine ends.
    Raises:
        MachineFailed, ConsoleSilent, TillstoneError: what did not come up, or did not sell.
    """
    folder = out / "machine"
    tools = open_tools(out, keys_folder)
    is_new = prepare(folder, image=out / "developer", tools=tools, keys=ensure_keys(keys_folder))
    say("first start of a new machine: its disk is parted and encrypted" if is_new else "the machine of the last start")
    machine = start(folder, network=forwarded({POS_PORT: _POS_INSIDE}), has_smm=has_smm)
    try:
        sold_s = _sell(machine)
        say(f"sold {sold_s:.1f} s after power-on ({_parts(machine.console)})")
        say(f"the door for tills: https://127.0.0.1:{POS_PORT}; what the console said: {folder / 'console.log'}")
        if is_kept:
            say("this is the machine's console, Ctrl-] leaves and cuts its power:")
            attach(machine)
    finally:
        machine.cut_power()


def _sell(machine: Machine) -> float:
    """Pair a till by what the console shows, unless it is paired, and sell. Returns seconds after power-on."""
    shown = machine.console.wait_for(r"bench: invitation (\S+&cert=[0-9a-f]{64})", START_S_MAX)[1]
    say(f"the appliance invites a till {_now(machine.console):.1f} s after power-on")
    home = TerminalHome(folder=machine.folder / "till")
    if not (home.folder / "terminal.json").exists():
        home.folder.mkdir(mode=0o700, exist_ok=True)
        # Inside, the box knows its own address; from here it is a forwarded port.
        asyncio.run(_pair(home, replace(read_qr(shown), url=f"https://127.0.0.1:{POS_PORT}")))
    command = [sys.executable, "-m", "provisioning.cli", "pay", "--home", str(home.folder), "--amount", "9.90"]
    sold = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_TYPED_S_MAX)
    at_s = _now(machine.console)
    if sold.returncode != 0:
        raise ConsoleSilent(f"the sale failed:\n{sold.stdout}{sold.stderr}")
    say("\n".join(f"  {line}" for line in sold.stdout.strip().splitlines()))
    return at_s


async def _pair(home: TerminalHome, invitation: Invitation) -> None:
    clock = SystemClock()
    deadline = Deadline.after(clock, _PAIR_MS_MAX)
    await pair(home, invitation, terminal=terminal_id(TILL), clock=clock, deadline=deadline)


def _parts(console: Console) -> str:
    """Firmware, kernel and userspace, as the manager measured them: asked at the developer's prompt."""
    before = len(console.lines)
    console.type("\nsystemd-analyze time\n")
    found = console.wait_for(r"Startup finished in (.*) = ", _TYPED_S_MAX, after=before)
    return re.sub(r"(\d)(ms|s|min)", r"\1 \2", found[1])


def attach(machine: Machine) -> None:
    """Join the person's terminal and the machine's console."""
    keyboard = sys.stdin.fileno()
    if not os.isatty(keyboard):
        machine.wait()
        return
    settings = termios.tcgetattr(keyboard)
    machine.console.show(lambda chunk: os.write(sys.stdout.fileno(), chunk))
    machine.console.type("\n")
    tty.setraw(keyboard)
    try:
        while machine.qemu.poll() is None:
            if select.select([keyboard], [], [], 0.2)[0]:
                typed = os.read(keyboard, 1024)
                if _LEAVE in typed:
                    return
                machine.console.type(typed)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, settings)
        say("")


def _now(console: Console) -> float:
    return time.monotonic() - console.began

"""The box under test as the rig's person sees it: a machine with a power switch, a serial console, doors on the LAN.

Owns what is typed at the console and what the console must not say. Its rules:
- every start's console is kept as a log of its own;
- what is typed is marked, so that no line of the box passes for an answer.
"""

from __future__ import annotations

import re
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image.console import Console, ConsoleSilent
from image.machine import Machine, plugged, start
from tests.rig.lan import BOX, WORLD, Lan
from tests.rig.world import CARDS_PORT

START_S_MAX: Final = 900.0
"""Emulated on a machine that has other work too; an idle one needs a minute."""
TYPED_S_MAX: Final = 240.0
FOLDER: Final = "/var/lib/tillstone"
CARDS_HERE: Final = "http://127.0.0.1:12111"  # tillstone-bench-cards.socket
SETTLE_MS: Final = 30_000
_TAINT_SOFT_LOCKUP: Final = 1 << 14  # kernel documentation, admin-guide/tainted-kernels
SUSPICIOUS: Final = re.compile(
    r"Traceback \(most recent call last\)|\bERROR\b|\"level\": ?\"error\"|Failed to start|Dependency failed|\[FAILED\]"
    r"|(?<!watchdog: )BUG:|\bOops\b|Call Trace|segfault|Kernel panic|I/O error|EXT4-fs error|dm-verity.*corrupt"
)
"""What no console may say unprovoked. That a processor stood still is said of the machine that emulates it."""


class BoxFailed(Exception):
    """The box did not do what it must; the message is for the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A line that should not be there."""

    start: int
    at_s: float
    text: str


class Prompt:
    """A shell at the end of a serial line."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def ask(self, command: str, seconds_max: float) -> list[str]:
        """Type `command`; what it printed. Raises BoxFailed when it fails, or says nothing in time."""
        before = len(self._console.lines)
        # Quoted in the middle: the echo of what was typed is no answer. The number tells this answer from one before.
        typed = f"{{ {command}; }} 2>&1 | sed -u 's/^/r''ig> /'; echo \"r\"\"ig {before} ended ${{PIPESTATUS[0]}}\"\n"
        self._console.type(typed)
        try:
            ended = self._console.wait_for(rf"^rig {before} ended (\d+)\s*$", seconds_max, after=before)
        except ConsoleSilent as silent:
            raise BoxFailed(str(silent)) from silent
        lines = [line.text for line in self._console.lines[before:]]
        answer = [text.removeprefix("rig> ") for text in lines if text.startswith("rig> ")]
        if ended[1] != "0":
            raise BoxFailed(f"`{command[:80]}` ended with {ended[1]}: {' | '.join(answer[-5:])}")
        return answer

    @staticmethod
    def writing(file: str, text: str) -> str:
        """The command, one line, that writes `text` and a newline."""
        return f"printf '%b\\n' {shlex.quote(text.replace(chr(10), chr(92) + 'n'))} > {file}"


class Box:
    """One machine, started as often as wanted."""

    def __init__(self, folder: Path, lan: Lan, logs: Path) -> None:
        self.folder = folder
        self.starts = 0
        self.suspicions: list[Suspicion] = []
        self._lan = lan
        self._logs = logs
        self._machine: Machine | None = None

    @property
    def machine(self) -> Machine:
        if self._machine is None:
            raise BoxFailed("the box is off")
        return self._machine

    @property
    def _prompt(self) -> Prompt:
        return Prompt(self.machine.console)

    @property
    def up_s(self) -> float:
        """Seconds since power-on."""
        return time.monotonic() - self.machine.console.began

    def ensure_on(self) -> None:
        """For whoever wants to look."""
        if self._machine is None:
            self.power_on()

    def power_on(self, stick: Path | None = None) -> None:
        """Begin a start; nothing answers yet. `stick`: what an installer has plugged in."""
        self.starts += 1
        self._machine = start(self.folder, network=plugged(self._lan.device), stick=stick)

    def cut_power(self) -> None:
        """At any moment; again is nothing."""
        if self._machine is not None:
            machine, self._machine = self._machine, None
            machine.cut_power()
            self._keep_log(machine)

    def wait_for_end(self, seconds_max: float) -> None:
        """Until the machine has ended by itself, or that long."""
        ends_at = time.monotonic() + seconds_max
        while self.machine.qemu.poll() is None and time.monotonic() < ends_at:
            time.sleep(0.1)

    def said(self) -> str:
        """The console of this start so far."""
        return "\n".join(line.text for line in self.machine.console.lines)

    def wait_for(self, pattern: str, seconds_max: float) -> re.Match[str]:
        """Raises BoxFailed with the console's last lines."""
        try:
            return self.machine.console.wait_for(pattern, seconds_max)
        except ConsoleSilent as silent:
            raise BoxFailed(str(silent)) from silent

    def ask(self, command: str, seconds_max: float = TYPED_S_MAX) -> list[str]:
        """`Prompt.ask` at this start's console."""
        return self._prompt.ask(command, seconds_max)

    def configure(self, api_key: str) -> None:
        """A certificate for the box's address, cards at the world outside, the public door open; then a restart."""
        settings = (
            f'[provider.stripe]\napi_base = "{CARDS_HERE}"\napi_key_path = "{FOLDER}/stripe-key"\n'
            f'payment_source_default = "pm_card_visa"\n[public]\nhost = "0.0.0.0"\n[limits]\nsettle_ms = {SETTLE_MS}\n'
        )
        files = {"extra.toml": settings, "stripe-key": api_key, "cards-way": f"CARDS={WORLD}:{CARDS_PORT}"}
        # Run again, the bench writes its settings anew, with what `extra.toml` says.
        lines = [
            f"cd {FOLDER}",
            "umask 077",
            *(Prompt.writing(name, text) for name, text in files.items()),
        ]
        bench = f"python3 -I -m provisioning.bench {FOLDER} --host {BOX}"
        lines += [
            f"chown tillstone: {' '.join(files)}",
            f"setpriv --reuid tillstone --regid tillstone --init-groups {bench}",
        ]
        lines += ["systemctl start tillstone-bench-cards.socket"]
        self.ask(" && ".join([*lines, "systemctl restart tillstone"]))

    def invite(self, terminal: str) -> str:
        """What the QR code of an invitation says."""
        said = self.ask(f"python3 -I -m provisioning.bench {FOLDER} --invite {terminal}")
        return said[-1].removeprefix("bench: invitation ")

    def admit_auditor(self) -> str:
        """A bearer token for the public door."""
        door = f"LocalDoor(Path('{FOLDER}/data'))"
        code = f"from provisioning.local_door import *; print({door}.admit_auditor('rig', 30)['token'])"
        return self.ask(f"python3 -I -c {shlex.quote(code)}")[-1]

    def failed_units(self) -> list[str]:
        return self.ask("systemctl list-units --failed --plain --no-legend")

    def taint(self) -> int:
        """Why the kernel does not vouch for itself; 0 when it does, or when only a processor stood still."""
        return int(self.ask("cat /proc/sys/kernel/tainted")[-1]) & ~_TAINT_SOFT_LOCKUP

    def start_parts(self) -> str:
        """Firmware and boot loader, then kernel, initrd and userspace as the manager measured them."""
        said = self.ask("systemctl is-system-running --wait; systemd-analyze time")
        (measured,) = [found[1] for line in said if (found := re.search(r"Startup finished in (.*) = ", line))]
        # A message of the kernel's carries its age: what our clock says more had passed before it.
        stamps = [
            line.at_s - float(found[1])
            for line in self.machine.console.lines
            if (found := re.search(r"\[ *(\d+\.\d+)\] ", line.text))
        ]
        return f"{min(stamps):.1f}s (firmware, boot loader) + {measured}"

    def resident_bytes(self) -> int:
        """Of the appliance's process, everything locked in memory included."""
        pid = "$(systemctl show --value -p MainPID tillstone)"
        return int(self.ask(f"grep VmRSS /proc/{pid}/status")[-1].split()[1]) * 1024

    def restart_s(self) -> float:
        """How long the process takes from its start to ready; the stop before it is not counted."""
        names = ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        shown = self.ask(f"systemctl restart tillstone && systemctl show -p {','.join(names)} tillstone")
        said = dict(line.split("=", 1) for line in shown if "=" in line)
        return (int(said[names[1]]) - int(said[names[0]])) / 1e6

    def _keep_log(self, machine: Machine) -> None:
        shutil.copyfile(machine.folder / "console.log", self._logs / f"console-{self.starts:03}.log")
        self.suspicions += [
            Suspicion(start=self.starts, at_s=line.at_s, text=line.text)
            for line in machine.console.lines
            if SUSPICIOUS.search(line.text)
        ]

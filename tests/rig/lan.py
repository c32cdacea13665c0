"""The rig's own network: a shop's LAN with a box and two tills, and a world outside it behind the LAN's gateway.

    till-a 10.77.0.11 --+
    till-b 10.77.0.12 --+-- bridge `shop` 10.77.0.1, gateway and DHCP -- 192.0.2.1 | 192.0.2.10: providers' twins
    box    10.77.0.10 --+

Every place is a network namespace; a process that sleeps holds each open. Must never touch a network but the one that
the rig was started in, which is empty and its own (`enter`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GATEWAY: Final = "10.77.0.1"
BOX: Final = "10.77.0.10"
POS_PORT: Final = 8443
TILLS: Final = {"till-a": "10.77.0.11", "till-b": "10.77.0.12"}
WORLD_GATEWAY: Final = "192.0.2.1"  # RFC 5737: addresses that nobody has
WORLD: Final = "192.0.2.10"
TAP: Final = "box"
PROGRAMS: Final = ("ip", "nsenter", "unshare", "dnsmasq")
_START_S_MAX: Final = 10.0
_ENTERED: Final = "--entered"


class NoNetwork(Exception):
    """The machine allows no network of our own; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A network namespace. `pid` holds it."""

    pid: int

    def words(self, *command: str | Path) -> list[str]:
        """`command`, started there."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *(str(word) for word in command)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lan:
    """What is plugged in. `device` is where the box's network card goes."""

    tills: dict[str, Place]
    world: Place
    device: str = TAP


def enter(arguments: Sequence[str]) -> int:
    """Go into namespaces of our own, once; returns the process by which others find them (`nsenter --net --target`).

    A process namespace too: whatever the rig starts ends with it, however it ends.

    Raises:
        NoNetwork: the kernel refuses, or a program is missing.
    """
    if len(arguments) >= 2 and arguments[-2] == _ENTERED:
        return int(arguments[-1])
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where not only root finds them
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise NoNetwork(f"not installed: {', '.join(missing)}; make rig installs what it needs")
    words = ["unshare", *(["--map-root-user", "--map-auto"] if os.geteuid() != 0 else [])]
    words += ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    tried = subprocess.run([*words, "ip", "link", "add", "shop", "type", "bridge"], capture_output=True, check=False)
    if tried.returncode != 0:
        raise NoNetwork(
            f"this machine allows no namespaces of our own: {tried.stderr.decode(errors='replace').strip()}"
        )
    os.execvp(words[0], [*words, sys.executable, "-m", "tests.rig", *arguments, _ENTERED, str(os.getpid())])


def way_in(pid: int) -> str:
    """The words before a command for the gateway, from another terminal; `pid` is what `enter` returned."""
    is_roots = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    return f"nsenter {'' if is_roots else '--preserve-credentials --user '}--net --target {pid}"


@contextmanager
def build(folder: Path) -> Iterator[Lan]:
    """Lay the cables and start DHCP; `folder` gets its log."""
    with ExitStack() as stack:
        tills = {name: stack.enter_context(_place()) for name in TILLS}
        lan = Lan(tills=tills, world=stack.enter_context(_place()))
        _ip("link set lo up")
        _ip("link add shop type bridge")
        _ip(f"addr add {GATEWAY}/24 dev shop")
        _ip("link set shop up")
        _ip(f"tuntap add dev {TAP} mode tap")
        _ip(f"link set {TAP} master shop up")
        for name, place in tills.items():
            _cable(name, place, f"{TILLS[name]}/24", GATEWAY)
            _ip(f"link set {name} master shop up")
        _cable("world", lan.world, f"{WORLD}/24", WORLD_GATEWAY)
        _ip(f"addr add {WORLD_GATEWAY}/24 dev world")
        _ip("link set world up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        stack.enter_context(_dhcp(folder))
        yield lan


@contextmanager
def _place() -> Iterator[Place]:
    process = subprocess.Popen(["unshare", "--net", "--", "sleep", "infinity"], stdin=subprocess.DEVNULL)
    try:
        ours, theirs = Path("/proc/self/ns/net"), Path(f"/proc/{process.pid}/ns/net")
        ends_at = time.monotonic() + _START_S_MAX
        while theirs.readlink() == ours.readlink():
            if process.poll() is not None or time.monotonic() > ends_at:
                raise NoNetwork("a network namespace could not be made")
            time.sleep(0.01)
        yield Place(pid=process.pid)
    finally:
        process.kill()
        process.wait()


def _cable(name: str, place: Place, address: str, gateway: str) -> None:
    """From here, as `name`, into `place`."""
    _ip(f"link add {name} type veth peer name eth0 netns {place.pid}")
    for line in (
        "link set lo up",
        f"addr add {address} dev eth0",
        "link set eth0 up",
        f"route add default via {gateway}",
    ):
        subprocess.run(place.words("ip", *line.split()), check=True)


@contextmanager
def _dhcp(folder: Path) -> Iterator[None]:
    """The LAN's router as the box sees it: one address, always the same, and no names."""
    options = [
        "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--port=0",
        "--interface=shop", "--bind-interfaces",
        f"--dhcp-range={BOX},{BOX},12h", f"--dhcp-option=3,{GATEWAY}", "--no-ping", "--dhcp-authoritative",
        # The box has no name for itself that outlives a power cut.
        "--dhcp-ignore-clid", f"--dhcp-leasefile={folder / 'leases'}", "--user=root", "--group=root",
    ]  # fmt: skip
    with (folder / "dhcp.log").open("wb") as log:
        process = subprocess.Popen(["dnsmasq", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _ip(line: str) -> None:
    subprocess.run(["ip", *line.split()], check=True)

"""A running sandbox: its box, its seven processes and how each is started and ended.

Owns the order: TPM, the providers' twins, the relay of their webhooks and the PIN pad first, then the appliance, then
the tills; ends in the other direction. Must never say that the shop is open before the appliance has answered at its
local door.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from appliance.model.errors import Unavailable
from provisioning.box import Box, ShopFacts, make_box, start_tpm
from provisioning.certificate import open_door
from provisioning.local_door import LocalDoor
from provisioning.sandbox.card_side import make_card_side
from provisioning.sandbox.children import end_child, kill_child, start_child, wait_ready
from provisioning.sandbox.coinbase_side import make_coinbase_side
from provisioning.sandbox.layout import TILLS, RunFile, SandboxFolder
from provisioning.sandbox.paypal_side import make_paypal_side
from provisioning.sandbox.pin_pad_side import make_pin_pad_side
from provisioning.sandbox.tills import follow_log, ready_tills
from provisioning.sandbox.twin_door import TwinDoor
from provisioning.settings_file import (
    CardProvider,
    CoinbaseAccount,
    PayPalAccount,
    Ports,
    Sections,
    write_settings,
)
from provisioning.terminal.durable import write_durably

POS_PORT: Final = 8443
PUBLIC_PORT: Final = 9080
START_S_MAX: Final = 30.0
ChildName = Literal["tpm", "stripe", "paypal", "coinbase", "relay", "pad", "appliance"]
CHILDREN: Final[tuple[ChildName, ...]] = ("tpm", "stripe", "paypal", "coinbase", "relay", "pad", "appliance")
ROOM_BYTES_MIN: Final = 64 * 2**20  # a sandbox shares somebody's disk; a shop's box keeps the default of 256 MiB

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the caller asks of a start. `ports_from` None: the default ports when free."""

    shop: ShopFacts
    ports_from: int | None = None
    sections: Sections = field(default_factory=dict)


class RunningShop:
    """Seven processes and the doors they opened. Make it with `open_shop`; one per folder, behind the folder's lock."""

    def __init__(self, *, folder: SandboxFolder, box: Box) -> None:
        self.folder = folder
        self.box = box
        self.notes: list[str] = []
        self.pos_url = ""
        self.public_url = ""
        self.stripe_url = ""
        self._is_ready = False
        self.paypal_url = ""
        self.coinbase_url = ""
        self._stripe_port = 0
        self._paypal_port = 0
        self._coinbase_port = 0
        self._webhook_port = _free_port()
        self._paypal_webhook_port = _free_port()
        self._coinbase_webhook_port = _free_port()
        self._relay_port = 0
        self._pad_port = 0
        self._tcti = ""
        self._children: dict[ChildName, subprocess.Popen[bytes]] = {}

    def open(self, wishes: Wishes, on_step: Step) -> None:
        """Start everything and pair the tills.

        Raises:
            ChildFailed, SwtpmError: something did not come up; `close` what did.
        """
        on_step("TPM, twins of Stripe, PayPal and Coinbase, PIN pad")
        os.umask(0o077)
        self.start("tpm")
        self.start("stripe")
        self.start("paypal")
        self.start("coinbase")
        self.start("relay")
        self.start("pad")
        twin = TwinDoor(base=self.stripe_url, folder=self.folder.stripe)
        relay_url = f"http://127.0.0.1:{self._relay_port}/stripe"
        side = make_card_side(twin, self.folder.stripe, tills=TILLS, relay_url=relay_url)
        door = open_door(
            self.box.folder / "tls",
            has_authority=self.box.keys.authority_public is not None,
            now=datetime.datetime.now(datetime.UTC),
            shop=self.box.shop.name,
        )
        ports = self._choose_ports(wishes.ports_from)
        if not self.folder.case.exists():
            self.folder.case.write_text("0\n")
        write_settings(
            self.box,
            tcti=self._tcti,
            ports=ports,
            door=door,
            cards=CardProvider(
                api_base=self.stripe_url,
                api_key=self.folder.stripe / "api-key",
                account=side.account,
                readers=side.readers,
                webhook_secret=side.webhook_secret,
                webhook_port=self._webhook_port,
            ),
            wallets=self._wallets(),
            pin_pad=make_pin_pad_side(self.folder.pad, port=self._pad_port, tills=TILLS),
            room_bytes_min=ROOM_BYTES_MIN,
            further={"tamper": {"line": f"file:{self.folder.case}"}, **wishes.sections},
        )
        on_step("the appliance: self-tests, TPM, token, log, doors")
        self.start("appliance")
        on_step("till-1 and till-2, paired through the real door")
        ready_tills(self.folder, door=door, pos_url=self.pos_url)
        self.notes += follow_log(self.folder)
        self._is_ready = True
        self.write_run()

    def start(self, name: ChildName, *, mounts_of: int | None = None) -> None:
        """Start one child and wait until it is ready; a running one stays.

        Args:
            mounts_of: the appliance sees the mounts of this process instead of ours.
        """
        if name in self.running():
            return
        match name:
            case "tpm":
                self._start_tpm()
            case "stripe":
                self._start_stripe()
            case "paypal":
                self._paypal_port = self._start_wallet(
                    "paypal", "the PayPal twin", self.folder.paypal, self._paypal_port
                )
                self.paypal_url = f"http://127.0.0.1:{self._paypal_port}"
            case "coinbase":
                folder = self.folder.coinbase
                self._coinbase_port = self._start_wallet("coinbase", "the Coinbase twin", folder, self._coinbase_port)
                self.coinbase_url = f"http://127.0.0.1:{self._coinbase_port}"
            case "relay":
                self._start_relay()
            case "pad":
                self._start_pad()
            case "appliance":
                self._start_appliance(mounts_of)
        self.write_run()

    def kill(self, name: ChildName) -> None:
        """A power cut for one child; it stays down until `start`."""
        if name in self._children:
            kill_child(self._children.pop(name))
            self.write_run()

    def stop(self, name: ChildName) -> None:
        """An orderly end of one child."""
        if name in self._children:
            end_child(self._children.pop(name))
            self.write_run()

    def running(self) -> dict[ChildName, int]:
        """Pid of each living child, by name."""
        return {name: process.pid for name, process in self._children.items() if process.poll() is None}

    def fallen(self) -> list[ChildName]:
        """Children that ended by themselves."""
        return [name for name, process in self._children.items() if process.poll() is not None]

    def close(self) -> None:
        """End every child, the appliance first: it still needs the others to stop in order."""
        for name in reversed(CHILDREN):
            if name in self._children:
                end_child(self._children.pop(name))
        self.folder.forget_run()

    def write_run(self) -> None:
        self.folder.write_run(
            RunFile(
                version=1,
                pid=os.getpid(),
                is_ready=self._is_ready,
                children=dict[str, int](self.running().items()),
                pos_url=self.pos_url,
                public_url=self.public_url,
                stripe_url=self.stripe_url,
                paypal_url=self.paypal_url,
                coinbase_url=self.coinbase_url,
            )
        )

    def _start_tpm(self) -> None:
        # swtpm stays in our process group; a child keeps an ignored signal ignored, so Ctrl-C reaches us alone.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            started = start_tpm(self.box)
        finally:
            signal.signal(signal.SIGINT, before)
        self._tcti = started.tcti
        self._children["tpm"] = started.process

    def _start_stripe(self) -> None:
        folder = self.folder.stripe
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, value in (("api-key", f"sk_test_{secrets.token_hex(12)}"), ("control-token", secrets.token_hex(16))):
            if not (folder / name).exists():
                write_durably(folder / name, value.encode() + b"\n")
        command = [sys.executable, "-m", "provisioning.sandbox.stripe_twin", "--port", str(self._stripe_port)]
        command += ["--state", str(folder / "state.sqlite"), "--control", str(folder / "control-token")]
        self._stripe_port = self._start_server("stripe", command, name="the Stripe twin", log=folder / "twin.log")
        self.stripe_url = f"http://127.0.0.1:{self._stripe_port}"

    def _wallets(self) -> tuple[PayPalAccount, CoinbaseAccount]:
        """What the box's settings say of the providers at which customers pay by themselves."""
        relay, paypal, coinbase = f"http://127.0.0.1:{self._relay_port}", self.folder.paypal, self.folder.coinbase
        return (
            make_paypal_side(
                TwinDoor(base=self.paypal_url, folder=paypal),
                paypal,
                api_base=self.paypal_url,
                relay_url=f"{relay}/paypal",
                webhook_port=self._paypal_webhook_port,
            ),
            make_coinbase_side(
                TwinDoor(base=self.coinbase_url, folder=coinbase),
                coinbase,
                api_base=self.coinbase_url,
                relay_url=f"{relay}/coinbase",
                webhook_port=self._coinbase_webhook_port,
            ),
        )

    def _start_wallet(self, child: ChildName, name: str, folder: Path, port: int) -> int:
        """The twin of a provider that shows customers an address; the port it took."""
        folder.mkdir(mode=0o700, exist_ok=True)
        for file in ("api-key", "control-token"):
            if not (folder / file).exists():
                write_durably(folder / file, secrets.token_hex(16).encode() + b"\n")
        command = [sys.executable, "-m", f"provisioning.sandbox.{child}_twin", "--port", str(port)]
        command += ["--state", str(folder / "state.sqlite"), "--control", str(folder / "control-token")]
        return self._start_server(child, command, name=name, log=folder / "twin.log")

    def _start_relay(self) -> None:
        command = [sys.executable, "-m", "provisioning.sandbox.webhook_relay", "--port", str(self._relay_port)]
        command += ["--to", f"http://127.0.0.1:{self._webhook_port}/v1/webhooks/stripe"]
        command += ["--paypal-to", f"http://127.0.0.1:{self._paypal_webhook_port}/v1/webhooks/paypal"]
        command += ["--coinbase-to", f"http://127.0.0.1:{self._coinbase_webhook_port}/v1/webhooks/coinbase"]
        log = self.folder.stripe / "relay.log"
        self._relay_port = self._start_server("relay", command, name="the webhook relay", log=log)

    def _start_pad(self) -> None:
        folder = self.folder.pad
        folder.mkdir(mode=0o700, exist_ok=True)
        command = [sys.executable, "-m", "provisioning.sandbox.pin_pad_side", "--port", str(self._pad_port)]
        command += ["--folder", str(folder)]
        self._pad_port = self._start_server("pad", command, name="the PIN pad", log=folder / "twin.log")

    def _start_server(self, child: ChildName, command: list[str], *, name: str, log: Path) -> int:
        """Start what prints its port when it is ready; the port."""
        log.unlink(missing_ok=True)
        process = start_child(command, environment=dict(os.environ), log=log)
        self._children[child] = process
        wait_ready(process, lambda: b"\n" in log.read_bytes(), name=name, log=log, seconds_max=START_S_MAX)
        return int(json.loads(log.read_text().splitlines()[0])["port"])

    def _start_appliance(self, mounts_of: int | None) -> None:
        enter: list[str] = [] if mounts_of is None else ["nsenter", f"--target={mounts_of}", "--mount"]
        data = self.folder.data if mounts_of is None else data_seen_by(mounts_of, self.folder)
        (data / "doors.json").unlink(missing_ok=True)
        log = self.folder.appliance_log
        command = [*enter, sys.executable, "-m", "appliance", "--config", str(self.box.settings)]
        process = start_child(command, environment=self.box.environment, log=log)
        self._children["appliance"] = process
        wait_ready(process, lambda: _answers(data), name="the appliance", log=log, seconds_max=START_S_MAX)
        ports = json.loads((data / "doors.json").read_bytes())
        self.pos_url = f"https://127.0.0.1:{ports['pos']}"
        self.public_url = f"http://127.0.0.1:{ports['public']}"

    def _choose_ports(self, ports_from: int | None) -> Ports:
        wanted = (POS_PORT, PUBLIC_PORT) if ports_from is None else (ports_from, ports_from + 1)
        if ports_from == 0:
            return Ports(pos=_free_port(), public=_free_port())
        chosen = [port if _is_free(port) else _free_port() for port in wanted]
        for asked, got in zip(wanted, chosen, strict=True):
            if asked != got:
                self.notes.append(f"port {asked} is in use by another program: this sandbox takes {got} instead")
        return Ports(pos=chosen[0], public=chosen[1])


def open_shop(folder: SandboxFolder, wishes: Wishes, on_step: Step) -> RunningShop:
    """Make or resume the shop in `folder` and open it. The caller holds the folder's lock."""
    box = make_box(folder.box, shop=wishes.shop, on_step=on_step)
    shop = RunningShop(folder=folder, box=box)
    try:
        shop.open(wishes, on_step)
    except BaseException:
        shop.close()
        raise
    return shop


def data_seen_by(pid: int, folder: SandboxFolder) -> Path:
    """The box's data as the process `pid` sees it, which may have another disk mounted there (proc(5), root)."""
    return Path(f"/proc/{pid}/root") / folder.data.relative_to("/")


def _answers(data: Path) -> bool:
    if not (data / "doors.json").exists():
        return False
    try:
        LocalDoor(data).status()
    except Unavailable:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port

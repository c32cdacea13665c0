"""A real box for tests: the appliance as its own process, with SoftHSM, swtpm and, where asked, the Stripe twin.

Owns starting, stopping and looking inside. Must never end a process that it did not start.
"""

from __future__ import annotations

import datetime
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from appliance.model.errors import Unavailable
from provisioning.box import Box, BoxFailed, ShopFacts, find_module, make_box, start_tpm
from provisioning.certificate import DoorFiles, TokenDoor, issue
from provisioning.local_door import LocalDoor
from provisioning.sandbox.stripe_twin_faults import FaultName
from provisioning.settings_file import CardProvider, Ports, write_settings
from provisioning.swtpm import RunningSwtpm, missing_programs
from tests.noon import zone_at_noon

START_S_MAX: Final = 30.0
STOP_S_MAX: Final = 20.0
ROOM_BYTES_MIN: Final = 16 * 2**20
CONTROL: Final = "control-token-of-a-test"


class StartFailed(Exception):
    """The appliance ended before it was ready; the message holds its log."""


class Twin:
    """The Stripe twin as a process of its own, on real time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.key_file = folder / "api-key"
        self.key_file.touch(mode=0o600)
        self.key_file.write_text("sk_test_ofATest1\n")
        token = folder / "control-token"
        token.write_text(CONTROL)
        command = [sys.executable, "-m", "provisioning.sandbox.stripe_twin", "--port", "0"]
        command += ["--state", str(folder / "twin.db"), "--control", str(token)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(json.loads(self._process.stdout.readline())["port"])

    def control(self, method: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {CONTROL}", "Content-Type": "application/json"}
        connection.request(method, f"/_twin/{name}", None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert answer.status == 200, content
        found: dict[str, Any] = json.loads(content)
        return found

    def fault(self, name: FaultName, *, path: str = "/v1/", times: int = 1) -> None:
        self.control("POST", "faults", {"fault": name, "path": path, "times": times})

    def clear(self) -> None:
        self.control("DELETE", "faults")

    def charges(self) -> list[dict[str, Any]]:
        """The money oracle."""
        charges: list[dict[str, Any]] = self.control("GET", "charges")["charges"]
        return charges

    def close(self) -> None:
        assert self._process.stdout is not None
        self._process.terminate()
        self._process.wait(STOP_S_MAX)
        self._process.stdout.close()


class RunningBox:
    """One box: its folder, its devices, its process."""

    own_door: TokenDoor | None = None

    def __init__(
        self,
        folder: Path,
        *,
        has_cards: bool = False,
        settings: str = "",
        without: tuple[str, ...] = (),
        renews_its_door: bool = False,
    ) -> None:
        self.box: Box = make_box(folder / "box", shop=ShopFacts(timezone=zone_at_noon()), without=without)
        self.log_file = folder / "appliance.log"
        self.log_file.touch(mode=0o600)
        self.local = LocalDoor(self.box.data)
        self.door: DoorFiles = issue(self.box.folder / "tls", now=datetime.datetime.now(datetime.UTC), shop="Shop")
        if renews_its_door:
            self.own_door = TokenDoor(authority=folder / "own" / "authority.pem")
        self.twin = Twin(folder / "twin") if has_cards else None
        self.port = 0
        self.public_port = 0
        self._more_settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._tpm: RunningSwtpm = start_tpm(self.box)

    @property
    def audience(self) -> str:
        return self.box.shop.origin

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self, *, program: tuple[str, ...] = ("-m", "appliance")) -> None:
        """Start the process and wait for its doors; raises StartFailed."""
        assert self._process is None
        self._write_settings()
        doors = self.box.data / "doors.json"
        doors.unlink(missing_ok=True)
        said_before = len(self.said())
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *program, "--config", str(self.box.settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.box.environment},
            )
        ends_at = time.monotonic() + START_S_MAX
        while not self._answers(doors):
            if self._process.poll() is not None or time.monotonic() > ends_at:
                self.kill()
                raise StartFailed(self.said()[said_before:])
            time.sleep(0.02)
        ports = json.loads(doors.read_bytes())
        self.port, self.public_port = ports["pos"], ports["public"]

    def _write_settings(self) -> None:
        """The settings for this start."""
        cards = None
        if self.twin is not None:
            cards = CardProvider(api_base=f"http://127.0.0.1:{self.twin.port}", api_key=self.twin.key_file)
        write_settings(
            self.box,
            tcti=self._tpm.tcti,
            ports=Ports(pos=0, public=0),
            door=self.own_door or self.door,
            cards=cards,
            room_bytes_min=ROOM_BYTES_MIN,
        )
        with self.box.settings.open("a") as file:
            file.write(self._more_settings)

    def stop(self) -> int:
        """An orderly end; the exit status."""
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        """A power cut."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def power_cycle(self) -> None:
        """Box and TPM lose power; the TPM is back, the box is not started yet."""
        self.power_off()
        self._tpm = start_tpm(self.box)

    def power_off(self) -> None:
        """Box and TPM lose power."""
        self.kill()
        self._tpm.process.kill()
        self._tpm.process.wait()

    def lose_tpm(self) -> None:
        """The TPM is gone while the box runs on."""
        self._tpm.process.kill()
        self._tpm.process.wait()

    @property
    def tcti(self) -> str:
        return self._tpm.tcti

    def close(self) -> None:
        self.power_off()
        if self.twin is not None:
            self.twin.close()

    def said(self) -> str:
        """Everything that the process wrote."""
        return self.log_file.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its log that have this event's name."""
        lines = [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def log_size(self) -> int:
        """How many entries the log holds, but for those that the box writes by itself from minute to minute."""
        with closing(sqlite3.connect(f"file:{self.box.data / 'ledger.db'}?mode=ro", uri=True)) as connection:
            by_itself = "'refusals', 'clock_step', 'clock_mark', 'clock_set', 'device_state'"
            counted = f"SELECT count(*) FROM entries WHERE kind NOT IN ({by_itself})"  # names of ours
            return int(connection.execute(counted).fetchone()[0])

    def data_bytes(self) -> bytes:
        """Every byte of every file of the data folder."""
        return b"".join(path.read_bytes() for path in sorted(self.box.data.iterdir()) if path.is_file())

    def public(self, path: str) -> tuple[int, bytes]:
        """GET at the read-only door."""
        connection = http.client.HTTPConnection("127.0.0.1", self.public_port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str((self.own_door or self.door).authority))

    def connect(self) -> ssl.SSLSocket:
        """A bare TLS connection to the terminals' door."""
        return self.tls().wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), 10), server_hostname="localhost"
        )

    def _answers(self, doors: Path) -> bool:
        if not doors.exists():
            return False
        try:
            self.local.status()
        except Unavailable:
            return False
        return True


def require_devices() -> None:
    """Skip, naming what is missing."""
    try:
        find_module()
    except BoxFailed:
        pytest.skip("SoftHSM (package softhsm2) is missing")
    missing = missing_programs() + [name for name in ("softhsm2-util", "setpriv") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@contextmanager
def running_box(
    folder: Path,
    *,
    has_cards: bool = False,
    settings: str = "",
    starts: bool = True,
    without: tuple[str, ...] = (),
    renews_its_door: bool = False,
) -> Iterator[RunningBox]:
    """A new box, started unless told otherwise; `without` these mechanisms of its token.

    Its door goes by files, or by the authority in its token where it `renews_its_door`.
    """
    require_devices()
    box = RunningBox(folder, has_cards=has_cards, settings=settings, without=without, renews_its_door=renews_its_door)
    try:
        if starts:
            box.start()
        yield box
    finally:
        box.close()


def refused_with(box: RunningBox) -> str:
    """The code with which the box refuses to start."""
    with pytest.raises(StartFailed):
        box.start()
    (line,) = box.events("start.failed")
    return str(line["code"])

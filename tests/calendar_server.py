"""Our calendar as its own process, over a real node, and the coin that pays for its anchors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.evidence.block import shown
from appliance.ports.chain import Outpoint
from provisioning.sandbox.bitcoin_node import BitcoinNode
from tests.bitcoin import KEY_NUMBER


class CalendarProcess:
    """Start, kill and stop one calendar; its folder outlives the process, and so does its address."""

    def __init__(self, folder: Path, node: BitcoinNode) -> None:
        self.folder = folder
        self._node = node
        self._process: subprocess.Popen[str] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        folder.mkdir(mode=0o700)
        self._write("anchor.key", KEY_NUMBER.hex())
        self._write("credential", node.credential)

    def start(self, coins: Sequence[Outpoint] = (), *, every_s: int = 0) -> None:
        command = [sys.executable, "-m", "provisioning.cli", "upstream", "calendar", "--network", "regtest"]
        command += ["--folder", str(self.folder), "--node", self._node.url, "--every", str(every_s)]
        command += ["--credential", str(self.folder / "credential"), "--look-every", "0.05"]
        command += ["--url", self.url, "--port", str(self._port)]
        for coin in coins:
            command += ["--coin", f"{shown(coin.transaction_id)}:{coin.index}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ)
        assert self._process.stdout is not None
        assert json.loads(self._process.stdout.readline())["url"] == self.url

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None:
            return
        assert self._process.stdout is not None
        self._process.send_signal(number)
        self._process.wait(20)
        self._process.stdout.close()
        self._process = None

    def _write(self, name: str, content: str) -> None:
        file = self.folder / name
        file.write_text(content)
        file.chmod(0o600)

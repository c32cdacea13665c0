"""An IPFS node from npm (js-ipfs): installed once per checkout, run for a sandbox or for a test.

Owns the process. Offline, on loopback, with a repository of its own: it never
meets another node.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from provisioning.sandbox import npm
from provisioning.sandbox.children import ChildFailed, end_child, kill_child, start_child, wait_ready

POLYFILL: Final = Path(__file__).parent / "node" / "ipfs" / "older_node.cjs"
INSTALL_S_MAX: Final = 900  # it takes three and a half minutes
START_S_MAX: Final = 60.0


class IpfsNode:
    """One node; what it was given to keep outlives its process."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._repository = folder / "repository"
        self._log = folder / "ipfs.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.api_base = ""
        self._jsipfs("init", "--profile", "test", "--empty-repo")
        self._listen("0")

    def start(self) -> None:
        """Start it and wait until it says that it is ready. Raises ChildFailed."""
        # A node that was killed leaves the address of its door and its lock behind.
        (self._repository / "api").unlink(missing_ok=True)
        shutil.rmtree(self._repository / "repo.lock", ignore_errors=True)
        self._log.unlink(missing_ok=True)
        command = ["node", str(self._program), "daemon", "--offline", "--enable-preload=false"]
        self._process = start_child(command, environment=self._environment(), log=self._log)
        wait_ready(self._process, self._is_ready, name="the IPFS node", log=self._log, seconds_max=START_S_MAX)
        port = re.search(r"/tcp/(\d+)", (self._repository / "api").read_text())
        if port is None:
            raise ChildFailed("the IPFS node does not say where its door is")
        self.api_base = f"http://127.0.0.1:{port[1]}"
        self._listen(port[1])  # the next start is at the same address

    def kill(self) -> None:
        """End it as a power cut does."""
        process, self._process = self._process, None
        if process is not None:
            kill_child(process)

    def stop(self) -> None:
        """End it in order."""
        process, self._process = self._process, None
        if process is not None:
            end_child(process)

    def _listen(self, port: str) -> None:
        file = self._repository / "config"
        config = json.loads(file.read_text())
        door = f"/ip4/127.0.0.1/tcp/{port}"
        config["Addresses"] = {"Swarm": [], "API": door, "Gateway": "", "RPC": "", "Delegates": []}
        file.write_text(json.dumps(config))

    def _is_ready(self) -> bool:
        return b"Daemon is ready" in self._log.read_bytes()

    def _jsipfs(self, *arguments: str) -> None:
        command = ["node", str(self._program), *arguments]
        subprocess.run(command, env=self._environment(), check=True, capture_output=True, timeout=START_S_MAX)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "IPFS_PATH": str(self._repository), "NODE_OPTIONS": f"--require={POLYFILL}"}


@contextmanager
def ipfs_node(folder: Path) -> Iterator[IpfsNode]:
    """Run a fresh node in `folder`, and end it. Raises ChildFailed: it could not be installed or started."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    node = IpfsNode(install_node(), folder)
    try:
        node.start()
        yield node
    finally:
        node.stop()


def install_node() -> Path:
    """Make the locked packages present; returns the program. Raises ChildFailed: as `npm.install`."""
    # Without scripts nothing runs or is fetched beside the lock: they belong to browsers' parts that no test starts.
    return npm.install("ipfs", ".bin/jsipfs", options=("--omit=dev", "--ignore-scripts"), seconds_max=INSTALL_S_MAX)

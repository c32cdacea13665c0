"""A real IPFS node for tests: js-ipfs from npm, installed once under build/, started offline, ended by its process."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from appliance.evidence.cid import cid_text
from appliance.model.ids import Cid

PACKAGE: Final = "ipfs@0.66.1"
PROJECT: Final = Path(__file__).resolve().parents[1]
HOME: Final = PROJECT / "build" / "node" / "ipfs"
POLYFILL: Final = PROJECT / "tests" / "tools" / "with_resolvers.cjs"
INSTALL_S_MAX: Final = 900  # it takes three and a half minutes
PROGRAM_S_MAX: Final = 60


class IpfsNode:
    """One node with a repository of its own."""

    def __init__(self, program: Path, repository: Path) -> None:
        self._program = program
        self._repository = repository
        self._process: subprocess.Popen[str] | None = None
        self.api_base = ""
        self._jsipfs("init", "--profile", "test", "--empty-repo")
        self._listen("0")

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        # A node that was killed leaves the address of its door and its lock behind.
        (self._repository / "api").unlink(missing_ok=True)
        shutil.rmtree(self._repository / "repo.lock", ignore_errors=True)
        process = subprocess.Popen(
            ["node", str(self._program), "daemon", "--offline", "--enable-preload=false"],
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._process = process
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "Daemon is ready" in line:
                break
        else:
            raise AssertionError(f"the node ended before it was ready: {''.join(said)}")
        port = re.search(r"/tcp/(\d+)", (self._repository / "api").read_text())
        assert port is not None
        self.api_base = f"http://127.0.0.1:{port[1]}"
        self._listen(port[1])  # the next start is at the same address

    def kill(self) -> None:
        """End it as a power cut does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(PROGRAM_S_MAX)
            assert process.stdout is not None
            process.stdout.close()

    def export(self, cid: Cid) -> bytes:
        """`ipfs dag export`: the CAR of everything under `cid`, as an auditor fetches it."""
        url = f"{self.api_base}/api/v0/dag/export?arg={cid_text(cid)}&timeout=10s"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=PROGRAM_S_MAX) as answer:
            exported: bytes = answer.read()
            return exported

    def _listen(self, port: str) -> None:
        file = self._repository / "config"
        config = json.loads(file.read_text())
        door = f"/ip4/127.0.0.1/tcp/{port}"
        config["Addresses"] = {"Swarm": [], "API": door, "Gateway": "", "RPC": "", "Delegates": []}
        file.write_text(json.dumps(config))

    def _jsipfs(self, *arguments: str) -> None:
        command = ["node", str(self._program), *arguments]
        subprocess.run(command, env=self._environment(), check=True, capture_output=True, timeout=PROGRAM_S_MAX)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "IPFS_PATH": str(self._repository), "NODE_OPTIONS": f"--require={POLYFILL}"}


@contextmanager
def running_node(folder: Path) -> Iterator[IpfsNode]:
    """A fresh node; skips, naming what is missing."""
    node = IpfsNode(installed(), folder)
    try:
        node.start()
        yield node
    finally:
        node.kill()


def installed() -> Path:
    """The node's program, installed from the machine's own npm registry when it is not there yet."""
    program = HOME / "node_modules" / ".bin" / "jsipfs"
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs install once
        if not program.exists():
            (HOME / "package.json").write_text('{"private": true}\n')
            command = ["npm", "install", "--no-audit", "--no-fund", "--omit=dev", PACKAGE]
            ended = subprocess.run(
                command, cwd=HOME, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False
            )
            if ended.returncode != 0:
                pytest.skip(f"npm cannot install {PACKAGE}: {ended.stderr[-300:]}")
    return program

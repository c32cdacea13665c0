"""A Bitcoin node on regtest, from npm: installed once per checkout, run for a sandbox or for a test.

Owns the installation in `build/node/bitcoin` and the process. Regtest only, without peers, in memory: it never meets
the real network, and its chain ends with it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from provisioning.sandbox.children import ChildFailed, end_child, start_child, wait_ready

PROJECT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = Path(__file__).parent / "node" / "bitcoin"
INSTALLED: Final = PROJECT / "build" / "node" / "bitcoin"
INSTALL_S_MAX: Final = 600
START_S_MAX: Final = 60.0
USER: Final = "x"  # the node looks at the password alone


@dataclass(frozen=True, slots=True, kw_only=True)
class BitcoinNode:
    """A running node: where its RPC answers, and `user:password` for it."""

    url: str
    credential: str
    process: subprocess.Popen[bytes]


def install_node() -> Path:
    """Make the locked packages present; returns the program. Other installers of the checkout wait for each other.

    Raises:
        ChildFailed: npm is missing or failed.
    """
    INSTALLED.mkdir(parents=True, exist_ok=True)
    program = INSTALLED / "node_modules" / "bcoin" / "bin" / "node"
    wanted = (PACKAGE / "package-lock.json").read_text()
    stamp = INSTALLED / "installed"
    with (INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted and program.exists():
            return program
        if shutil.which("npm") is None:
            raise ChildFailed("npm is missing; it comes with Node.js")
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(PACKAGE / name, INSTALLED / name)
        # Without scripts none of 106 packages runs or compiles; cryptography in JavaScript is fast enough for regtest.
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        ended = subprocess.run(
            command, cwd=INSTALLED, check=False, capture_output=True, text=True, timeout=INSTALL_S_MAX
        )
        if ended.returncode != 0:
            raise ChildFailed(f"npm could not install the Bitcoin node: {ended.stderr[-400:]}")
        stamp.write_text(wanted)
    return program


@contextmanager
def bitcoin_node(folder: Path) -> Iterator[BitcoinNode]:
    """Run a node whose log lies in `folder`, and end it.

    Raises:
        ChildFailed: it could not be installed or started.
    """
    program = install_node()
    password = secrets.token_hex(16)
    port, unused = _free_ports()
    command = ["node", str(program), "--network=regtest", "--memory=true", f"--prefix={folder / 'bitcoin'}"]
    command += [f"--http-port={port}", "--http-host=127.0.0.1", "--no-wallet=true", f"--wallet-http-port={unused}"]
    # An address that refuses is the only way to have no peers.
    command += ["--listen=false", "--no-dns=true", "--only=127.0.0.1:1", "--workers=false", "--log-level=warning"]
    environment = {**os.environ, "NODE_BACKEND": "js", "BCOIN_API_KEY": password}
    log = folder / "bitcoin.log"
    process = start_child(command, environment=environment, log=log)
    node = BitcoinNode(url=f"http://127.0.0.1:{port}/", credential=f"{USER}:{password}", process=process)
    try:
        wait_ready(process, lambda: _answers(node), name="the Bitcoin node", log=log, seconds_max=START_S_MAX)
        yield node
    finally:
        end_child(process)


def _answers(node: BitcoinNode) -> bool:
    body = json.dumps({"method": "getblockcount", "params": [], "id": 1}).encode()
    token = base64.b64encode(node.credential.encode()).decode()
    request = urllib.request.Request(node.url, data=body, headers={"Authorization": f"Basic {token}"})  # noqa: S310 - the address is our own, on loopback
    try:
        with urllib.request.urlopen(request, timeout=START_S_MAX) as answer:  # noqa: S310 - our own address again
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]

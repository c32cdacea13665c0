"""A Bitcoin node on regtest, from npm: installed once per checkout, run for a sandbox or for a test.

Owns the process. Regtest only, without peers, in memory: it never meets
the real network, and its chain ends with it.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from provisioning.sandbox import npm
from provisioning.sandbox.children import end_child, start_child, wait_ready

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
    """Make the locked packages present; returns the program. Raises ChildFailed: as `npm.install`."""
    # Without scripts none of 106 packages runs or compiles; cryptography in JavaScript is fast enough for regtest.
    return npm.install("bitcoin", "bcoin/bin/node", options=("--ignore-scripts",), seconds_max=INSTALL_S_MAX)


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

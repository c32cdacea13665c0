"""A real PostgreSQL for tests: own folder, Unix socket only, ended by its process object, gone with the folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

READY_S_MAX: Final = 30.0
_PLACES: Final = ("/usr/local/bin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True))


class Postgres:
    """One server; `new_database` gives each test its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        # Its own order of fsync is what a witness relies on; only the making of the empty cluster may be quick.
        self._run("initdb", "-D", str(self._data), "-U", "tillstone", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = [
            "-c",
            "listen_addresses=",
            "-c",
            f"unix_socket_directories={self._folder}",
            "-c",
            "shared_buffers=16MB",
        ]
        with (self._folder / "log").open("ab") as log:
            # Behind the change of user, which forgets it: nothing outlives a test run that is killed.
            program = ["setpriv", "--pdeathsig", "QUIT", str(_program("postgres"))]
            command = [*_as_postgres(), *program, "-D", str(self._data), *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        ends_at = time.monotonic() + READY_S_MAX
        while self._run("pg_isready", "-q", "-h", str(self._folder), check=False) != 0:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < ends_at, "PostgreSQL did not become ready"
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut: no checkpoint, no goodbye. Every backend sits in the postmaster's session."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it without waiting for anybody."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(READY_S_MAX)

    def new_database(self) -> str:
        """Make an empty database; returns its DSN."""
        name = f"test_{secrets.token_hex(4)}"
        self._run("createdb", "-h", str(self._folder), "-U", "tillstone", name)
        return f"postgresql://tillstone@/{name}?host={self._folder}"

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        command = [*_as_postgres(), str(_program(program)), *arguments]
        return subprocess.run(command, check=check, capture_output=True, timeout=60, cwd="/").returncode


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server for the length of the block. Skips, naming what is missing."""
    if _find("initdb") is None:
        pytest.skip("not installed: postgresql")
    # Not pytest's own folder: root's is closed to the user that PostgreSQL insists on.
    folder = Path(tempfile.mkdtemp(prefix="tillstone-pg-"))
    try:
        if user := _other_user():
            shutil.chown(folder, user)
        server = Postgres(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _as_postgres() -> list[str]:
    """PostgreSQL refuses to run as root; then it runs as the user of Debian's package."""
    user = _other_user()
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"] if user else []


def _other_user() -> str:
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("not installed: postgresql (no user postgres, and root may not run it)")


def _program(name: str) -> Path:
    found = _find(name)
    assert found is not None, name
    return found


def _find(name: str) -> Path | None:
    return next((Path(place, name) for place in _PLACES if Path(place, name).is_file()), None)

"""A PostgreSQL server in a folder of its own: Unix socket only, one user, gone with the folder.

Owns the cluster and its process. PostgreSQL refuses to run as root: then it runs as the user of Debian's package.
"""

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
from functools import cache
from pathlib import Path
from typing import Final

from provisioning.sandbox.children import ChildFailed

READY_S_MAX: Final = 30.0
_USER: Final = "postgres"
_NEEDED: Final = ("initdb", "postgres", "pg_isready", "createdb")
_PLACES: Final = ("/usr/local/bin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True))


class PostgresServer:
    """One server; `new_database` makes an empty database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        # Its own order of fsync is what a witness relies on; only the making of the empty cluster may be quick.
        self._run("initdb", "-D", str(self._data), "-U", "tillstone", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def start(self) -> None:
        """Start, and wait until it takes connections. Raises ChildFailed."""
        settings = ("listen_addresses=", f"unix_socket_directories={self._folder}", "shared_buffers=16MB")
        options = [option for setting in settings for option in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            command = [*_as_postgres(), str(_program("postgres")), "-D", str(self._data), *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        ends_at = time.monotonic() + READY_S_MAX
        while self._run("pg_isready", "-q", "-h", str(self._folder), check=False) != 0:
            if self._process.poll() is not None or time.monotonic() > ends_at:
                self.stop()
                said = (self._folder / "log").read_text(errors="replace")[-400:]
                raise ChildFailed(f"PostgreSQL did not become ready: {said}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut: no checkpoint, no goodbye. Every backend sits in the postmaster's session."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """End it without waiting for anybody."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(READY_S_MAX)

    def new_database(self) -> str:
        """Make an empty database; returns its DSN."""
        name = f"tillstone_{secrets.token_hex(4)}"
        self._run("createdb", "-h", str(self._folder), "-U", "tillstone", name)
        return f"postgresql://tillstone@/{name}?host={self._folder}"

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        command = [*_as_postgres(), str(_program(program)), *arguments]
        return subprocess.run(command, check=check, capture_output=True, timeout=60, cwd="/").returncode


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server for the length of the block. Raises ChildFailed, naming what is missing."""
    _program("initdb")
    # In a folder that the other user may enter; a caller's own is often closed to it.
    folder = Path(tempfile.mkdtemp(prefix="tillstone-pg-"))
    try:
        if user := _other_user():
            shutil.chown(folder, user)
        server = PostgresServer(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _as_postgres() -> list[str]:
    user = _other_user()
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"] if user else []


def _other_user() -> str:
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwnam(_USER).pw_name
    except KeyError:
        raise ChildFailed(f"not installed: postgresql (no user {_USER}, and root may not run it)") from None


def _program(name: str) -> Path:
    return _programs() / name


@cache
def _programs() -> Path:
    """The folder of the newest PostgreSQL here; Debian keeps it away from PATH."""
    found = next((Path(place) for place in _PLACES if all(Path(place, name).is_file() for name in _NEEDED)), None)
    if found is None:
        raise ChildFailed("not installed: postgresql")
    return found

"""What a sandbox's folder holds, and who runs it now.

Owns the names in the folder, `run.json` and the lock. Its rules:
- the lock (flock on `run.lock`) alone says that a sandbox runs: the kernel drops it with its holder, a file would stay;
- `run.json` is written whole at every change, mode 0600, and removed at the end.
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from provisioning.terminal.durable import write_durably
from provisioning.terminal.home import TerminalHome

FOLDER_DEFAULT: Final = Path(".sandbox")
TILLS: Final = ("till-1", "till-2")
_LOCK_TRIES: Final = 10
_LOCK_PAUSE_S: Final = 0.05


class RunFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pids and doors of a running sandbox.

    Attributes:
        is_ready: both tills are paired and the box sells.
        children: pid by name: tpm, stripe, paypal, coinbase, relay, pad, appliance; absent while it is down.
    """

    version: int
    pid: int
    is_ready: bool
    children: dict[str, int]
    pos_url: str
    public_url: str
    stripe_url: str
    paypal_url: str = ""
    coinbase_url: str = ""


@dataclass(frozen=True, slots=True)
class SandboxFolder:
    """The folder of one sandbox; `box/` in it is what a device would hold."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> SandboxFolder:
        return cls(Path(os.path.abspath(path)))

    @property
    def box(self) -> Path:
        return self.path / "box"

    @property
    def data(self) -> Path:
        """Where the box's log lies."""
        return self.box / "data"

    @property
    def stripe(self) -> Path:
        return self.path / "stripe"

    @property
    def paypal(self) -> Path:
        return self.path / "paypal"

    @property
    def coinbase(self) -> Path:
        return self.path / "coinbase"

    @property
    def pad(self) -> Path:
        return self.path / "pad"

    @property
    def case(self) -> Path:
        """What the box's tamper contact says: a file of one digit, 1 for open."""
        return self.path / "case"

    @property
    def appliance_log(self) -> Path:
        return self.path / "appliance.log"

    def till(self, name: str) -> TerminalHome:
        return TerminalHome(folder=self.path / name)

    def write_run(self, run: RunFile) -> None:
        write_durably(self.path / "run.json", msgspec.json.encode(run))

    def read_run(self) -> RunFile | None:
        """The run file if a sandbox holds the lock and has written it; one that a killed sandbox left is nothing."""
        if not self.is_running():
            return None
        try:
            run = msgspec.json.decode((self.path / "run.json").read_bytes(), type=RunFile)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return run if Path(f"/proc/{run.pid}").exists() else None

    def forget_run(self) -> None:
        (self.path / "run.json").unlink(missing_ok=True)

    def is_running(self) -> bool:
        """Whether a sandbox holds this folder."""
        descriptor = self._try_lock(fcntl.LOCK_SH)
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def lock(self) -> int | None:
        """Hold the folder as long as the descriptor is open; None when somebody else does."""
        for _ in range(_LOCK_TRIES):
            descriptor = self._try_lock(fcntl.LOCK_EX)
            if descriptor is not None:
                return descriptor
            time.sleep(_LOCK_PAUSE_S)  # perhaps somebody only looks: `is_running` holds it for a moment
        return None

    def _try_lock(self, kind: int) -> int | None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        descriptor = os.open(self.path / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

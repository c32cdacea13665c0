"""The processes of a sandbox: started so that they end with it, ended by their own process object.

Owns starting, waiting and ending. Must never end a process that it did not start, nor leave one behind: each child
asks the kernel for SIGTERM when its parent dies, and sits outside the terminal's process group, so that Ctrl-C reaches
the sandbox alone and the order of stopping is ours.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

STOP_S_MAX: Final = 10.0
_POLL_S: Final = 0.02


class ChildFailed(Exception):
    """A child ended or did not become ready; the message ends with what it said last."""


def start_child(command: list[str], *, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start `command`; what it prints goes to the end of `log`. Call from the main thread: its death is the signal."""
    with log.open("ab") as file:
        log.chmod(0o600)
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "SIGTERM", *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,
        )


def wait_ready(
    process: subprocess.Popen[bytes], is_ready: Callable[[], bool], *, name: str, log: Path, seconds_max: float
) -> None:
    """Return when `is_ready` says so.

    Raises:
        ChildFailed: the process ended first, or took too long.
    """
    ends_at = time.monotonic() + seconds_max
    while not is_ready():
        if process.poll() is not None:
            raise ChildFailed(f"{name} ended with {process.returncode} before it was ready: {_last_lines(log)}")
        if time.monotonic() > ends_at:
            raise ChildFailed(f"{name} was not ready within {seconds_max:.0f} s: {_last_lines(log)}")
        time.sleep(_POLL_S)


def end_child(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, insist after 10 s, and wait until it is gone."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def kill_child(process: subprocess.Popen[bytes]) -> None:
    """What a power cut does to it."""
    process.kill()
    process.wait()


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()[-3:]
    except OSError:
        return "it said nothing"
    return " | ".join(line[-400:] for line in lines) or "it said nothing"

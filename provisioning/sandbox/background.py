"""A sandbox in the background for commands that need one for a moment.

Owns starting it, waiting until it sells and ending it. Must never end a sandbox that somebody else opened.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from provisioning.commands.outcome import CannotDo
from provisioning.sandbox.children import end_child
from provisioning.sandbox.layout import SandboxFolder

READY_S_MAX: Final = 60.0
_POLL_S: Final = 0.05


@contextmanager
def sandbox_for_a_while(folder: SandboxFolder, *options: str) -> Iterator[bool]:
    """A running sandbox in `folder`: the one that is there, else one of our own until the block ends.

    Yields whether it was there already.

    Raises:
        CannotDo: it did not open; the message ends with what it said.
    """
    if folder.is_running():
        _wait(folder, None, None)
        yield True
        return
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "provisioning.cli", "sandbox", "--quiet", "--dir", str(folder.path), *options]
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "SIGTERM", *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            _wait(folder, process, said.fileno())
            yield False
        finally:
            end_child(process)


def _wait(folder: SandboxFolder, process: subprocess.Popen[bytes] | None, said: int | None) -> None:
    ends_at = time.monotonic() + READY_S_MAX
    while True:
        run = folder.read_run()
        if run is not None and run.is_ready:
            return
        if process is not None and process.poll() is not None:
            raise CannotDo(f"the sandbox in {folder.path} did not open: {_text(said)}", "tillstone sandbox")
        if time.monotonic() > ends_at:
            raise CannotDo(
                f"the sandbox in {folder.path} was not open within {READY_S_MAX:.0f} s", f"read {folder.appliance_log}"
            )
        time.sleep(_POLL_S)


def _text(said: int | None) -> str:
    if said is None:
        return ""
    return Path(f"/proc/self/fd/{said}").read_text(errors="replace").strip()[-1000:]

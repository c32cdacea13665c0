"""A program: installs an update again and again, each time in a child that kills itself after so many bytes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from appliance.crypto.owner import OwnerPublic
from appliance.installer.install import Installer
from drivers.slots.blocks import DiskBlocks
from drivers.slots.boot_entries import BootEntries
from tests.update_machine import TestMachine


class DyingBlocks(DiskBlocks):
    """Kills this process in the middle of the write that passes `lasts`."""

    def __init__(self, path: Path, lasts: int) -> None:
        super().__init__(path)
        self._left = lasts

    def write(self, offset: int, content: bytes) -> None:
        if len(content) > self._left:
            super().write(offset, content[: self._left])
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= len(content)
        super().write(offset, content)


def main() -> None:
    """Print what each death left behind."""
    machine = TestMachine(Path(sys.argv[1]))
    owner = OwnerPublic.decode(Path(sys.argv[2]).read_bytes())
    deaths = []
    for point in json.loads(sys.argv[3]):
        child = os.fork()
        if child == 0:
            installer = Installer(
                blocks=DyingBlocks(machine.disk, point),
                entries=BootEntries(machine.esp),
                owner=owner,
                running=machine.running,
            )
            installer.settle(machine.spool / "update", "ab" * 16, None)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = "killed" if os.WIFSIGNALED(status) else "ended"
        deaths.append({"ended": ended, "kept": machine.kept(), "starts": sorted(machine.starts())})
    print(json.dumps(deaths))


if __name__ == "__main__":
    main()

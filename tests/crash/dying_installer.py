"""`python -m tests.crash.dying_installer WRITES ARGUMENTS...`: `tillstone`, dead at a durable write.

Owns where it dies: before the WRITES-th file appears, with everything done that stands before it in the code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from provisioning import box, certificate, settings_file
from provisioning.ceremony import record, steps
from provisioning.cli import main
from provisioning.terminal import durable

DEAD = 86


def arm(writes: int) -> None:
    """Replace the durable write everywhere that a ceremony takes it from."""
    left = [writes]
    write = durable.write_durably

    def dying(path: Path, content: bytes) -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(DEAD)
        write(path, content)

    for module in (box, certificate, settings_file, record, steps):
        module.write_durably = dying  # type: ignore[attr-defined]  # the name that each module imported


if __name__ == "__main__":
    arm(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))

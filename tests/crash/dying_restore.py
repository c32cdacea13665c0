"""`tillstone restore` and `succession begin`, which kill themselves at the step that DIE_AT names. Holds no test."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from provisioning import carry, succession
from provisioning.cli import main
from provisioning.restore import restore

_STEPS: dict[str, tuple[Any, str]] = {
    "unpack": (restore, "unpack"),
    "devices": (restore, "make_devices"),
    "settings": (restore, "write_restored"),
    "keys": (restore, "put_keys"),
    "data": (restore, "fsync_folder"),
    "request": (restore, "request_successor"),
    "secrets": (succession, "take_over_secrets"),
    "file": (carry, "fsync_folder"),
    "tokens": (succession, "take_over_tokens"),
}


def dying(inner: Callable[..., Any], when: str) -> Callable[..., Any]:
    """`inner`, with the end of the process in its place, or behind it."""

    def run(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            _die()
        done = inner(*arguments, **named)
        _die()
        return done

    return run


def _die() -> None:
    Path(os.environ["DIED_FILE"]).touch()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    when, _, step = os.environ["DIE_AT"].partition(" ")
    module, name = _STEPS[step]
    setattr(module, name, dying(getattr(module, name), when))
    sys.exit(main())

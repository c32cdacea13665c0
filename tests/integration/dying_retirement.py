"""`python -m tests.integration.dying_retirement POINT FOLDER SERIAL`: `tillstone retire`, dead after one part of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from appliance.adapters import zeroise
from appliance.adapters.hsm_link import HsmLink
from appliance.adapters.tpm_sealer import TpmSealer
from provisioning.ceremony import retire
from provisioning.cli import main

DEAD = 86


def dying(call: Callable[..., Any]) -> Callable[..., Any]:
    """Does it, then dies."""

    def instead(*arguments: Any, **named: Any) -> Any:
        call(*arguments, **named)
        os._exit(DEAD)

    return instead


def dying_later(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same of a coroutine function."""

    async def instead(*arguments: Any, **named: Any) -> Any:
        await call(*arguments, **named)
        os._exit(DEAD)

    return instead


def arm(point: str) -> None:
    places: dict[str, tuple[Any, str, Callable[..., Any]]] = {
        "certificate": (retire, "write_durably", dying),
        "mark": (retire, "mark_retired", dying),
        "keys": (HsmLink, "destroy_keys", dying_later),
        "tpm": (TpmSealer, "forget", dying_later),
        "files": (zeroise, "_wipe_all", dying),
        "token": (retire, "erase_token", dying),
    }
    owner, name, made = places[point]
    setattr(owner, name, made(getattr(owner, name)))


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(main(["retire", "--dir", sys.argv[2], "--yes", sys.argv[3]]))

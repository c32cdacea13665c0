"""Runs the process: the event loop, the interpreter's switch interval, and the exit code.

Must stay the only place that knows uvloop.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

SWITCH_INTERVAL_S: Final = 0.0005
"""With the default of 5 ms a busy loop thread made a one-entry group take 27 ms instead of 0.5 (ARCHITECTURE 4)."""


DESCRIPTORS_WANTED: Final = 65_536
"""Common soft limits of 1,024 let a stranger's idle connections take the descriptors that the TPM and the log need."""


def raise_descriptor_limit() -> int:
    """Lift the soft limit of open files as far as the hard one allows; returns what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
        return ceiling
    return soft


def run_process(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` on uvloop until it ends; its error passes through, for the entry point to report and exit on."""

    async def body() -> None:
        await main()

    sys.setswitchinterval(SWITCH_INTERVAL_S)
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())

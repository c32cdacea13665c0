"""Keeps secrets out of core dumps and swap, as far as the kernel lets this user. Says what it could not do.

Locked memory is resident memory: so it also says how large the stacks of threads are.
"""

from __future__ import annotations

import ctypes
import os
import resource
import threading
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT_AND_FUTURE: Final = 3
THREAD_STACK_BYTES: Final = 2 << 20
"""Locked, the 8 MiB that a thread gets otherwise are all there: 123 of 242 MB by 15 threads (measured in the image)."""


def harden() -> tuple[str, ...]:
    """No core dumps, no foreign debugger, no swap; returns the measures that were refused. Threads come later.

    Python cannot promise to wipe memory (copies of a secret may stay until reuse), so nothing here claims that.
    """
    refused = []
    threading.stack_size(THREAD_STACK_BYTES)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        refused.append(f"no_dump: {os.strerror(ctypes.get_errno())}")
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # With a small limit the first large allocation after mlockall would fail: better to swap than to die mid-sale.
    if resource.RLIM_INFINITY not in (soft, hard):
        refused.append(f"no_swap: the limit of locked memory is {soft} bytes")
    elif libc.mlockall(_MCL_CURRENT_AND_FUTURE) != 0:
        refused.append(f"no_swap: {os.strerror(ctypes.get_errno())}")
    return tuple(refused)

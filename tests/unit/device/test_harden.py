"""Owns the promise that locked memory stays small: a thread's stack takes what it may need, not all that libc gives."""

from __future__ import annotations

import subprocess
import sys

from appliance.device.harden import THREAD_STACK_BYTES

# In a process of its own: hardening cannot be undone.
LOOK = """
import re, threading
from appliance.device.harden import harden
harden()
before, over = set(open("/proc/self/maps")), threading.Event()
thread = threading.Thread(target=over.wait)
thread.start()
made = [line.split()[0].split("-") for line in set(open("/proc/self/maps")) - before if "rw-p 00000000 00:00 0" in line]
over.set()
thread.join()
print(max(int(end, 16) - int(start, 16) for start, end in made))
"""


def test_stack_of_a_thread_is_no_larger_than_it_may_be() -> None:
    looked = subprocess.run([sys.executable, "-c", LOOK], check=True, capture_output=True, text=True, timeout=30)
    # The first thread brings an arena of malloc, too, of which little is accessible.
    assert int(looked.stdout) <= THREAD_STACK_BYTES + 4096

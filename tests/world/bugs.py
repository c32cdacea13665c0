"""Bugs that a world must find: each is what a tired colleague might write, planted into the running code.

Owns the list. A bug replaces one function of ours by a wrong twin of it, in a process of its own (`worker.py`).
`test_bugs.py` asks the world to catch every one; a bug that gets away shows a hole in the world, not in the list.
"""

from __future__ import annotations

from tests.world import (
    bugs_changing,
    bugs_charging,
    bugs_counting,
    bugs_customers,
    bugs_hearing,
    bugs_offline,
    bugs_parts,
    bugs_recording,
    bugs_vouchers,
)
from tests.world.bug import BUGS, Bug

__all__ = [
    "BUGS",
    "Bug",
    "bugs_changing",
    "bugs_charging",
    "bugs_counting",
    "bugs_customers",
    "bugs_hearing",
    "bugs_offline",
    "bugs_parts",
    "bugs_recording",
    "bugs_vouchers",
]

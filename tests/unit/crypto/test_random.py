"""Owns the promise that no random piece is given out twice, also across threads and forks."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from appliance.crypto.random import PIECE_SIZE, random_piece


def test_threads_never_get_the_same_piece() -> None:
    with ThreadPoolExecutor(max_workers=8) as threads:
        parts = list(threads.map(lambda _: [random_piece() for _ in range(2_000)], range(8)))
    pieces = [piece for part in parts for piece in part]
    assert {len(piece) for piece in pieces} == {PIECE_SIZE}
    assert len(set(pieces)) == len(pieces) == 16_000


_FORK = """
import os
from appliance.crypto.random import random_piece
random_piece()  # leaves most of a fetched page behind
child = os.fork()
os.write(1, random_piece().hex().encode() + b" ")
if child: os.waitpid(child, 0)
"""


def test_a_forked_child_starts_with_none() -> None:
    said = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True, check=True, timeout=30)
    of_parent, of_child = said.stdout.split()
    assert of_parent != of_child

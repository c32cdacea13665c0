"""Random bytes for salts and nonces: the kernel's, fetched a page at a time.

A system call hands the interpreter lock away, and a busy event loop then waits for the writer to give it back: three
calls in every sale cost more than what they bring. No byte is given out twice: taking a piece off a deque is one step
of the interpreter, and a forked child starts with none. Keys are made elsewhere, straight from their generator.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Final

PIECE_SIZE: Final = 16
_FETCHED_PIECES: Final = 256

_pieces: Final[deque[bytes]] = deque()
os.register_at_fork(after_in_child=_pieces.clear)


def random_piece() -> bytes:
    """16 fresh random bytes."""
    while True:
        try:
            return _pieces.popleft()
        except IndexError:
            fetched = os.urandom(PIECE_SIZE * _FETCHED_PIECES)
            _pieces.extend(fetched[at : at + PIECE_SIZE] for at in range(0, len(fetched), PIECE_SIZE))

"""Counts and amounts of the last while, in slots: a fixed amount of memory however much comes.

The running slot counts as a whole, so a span is up to one slot longer than asked: a limit errs towards speaking.
"""

from __future__ import annotations


class Window:
    """Sums over slots of `slot_ms`; what is older than `slots` of them is forgotten."""

    __slots__ = ("_amounts", "_counts", "_numbers", "_slot_ms")

    def __init__(self, *, slot_ms: int, slots: int) -> None:
        self._slot_ms = slot_ms
        # A slot lies at its number modulo the size; the number beside it tells whose it is.
        self._numbers = [-1] * slots
        self._counts = [0] * slots
        self._amounts = [0] * slots

    def add(self, at_ms: int, amount_minor: int, count: int = 1) -> None:
        """Count one more; `count` is -1 to take it back. What lies behind the window is passed over."""
        number = at_ms // self._slot_ms
        index = number % len(self._numbers)
        if self._numbers[index] != number:
            if self._numbers[index] > number or count < 0:
                return
            self._numbers[index] = number
            self._counts[index] = self._amounts[index] = 0
        self._counts[index] += count
        self._amounts[index] += count * amount_minor

    def within(self, now_ms: int, span_ms: int) -> tuple[int, int]:
        """How many, and how much, in the last `span_ms`."""
        newest = now_ms // self._slot_ms
        size = len(self._numbers)
        count = amount = 0
        for number in range(newest - min(-(-span_ms // self._slot_ms), size - 1), newest + 1):
            index = number % size
            if self._numbers[index] == number:
                count += self._counts[index]
                amount += self._amounts[index]
        return count, amount

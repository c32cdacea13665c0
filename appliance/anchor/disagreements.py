"""Witnesses that say this log is not the one they know, and show no proof: who, and when to ask again.

Owns this memory; it lives from start to start. Must never stop a sale: a word without proof is an alarm, nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.anchor.follower import BACK_OFF_MS_MAX, BACK_OFF_MS_MIN
from appliance.ports.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    sentence: str
    times: int
    again_at_ms: int


class Disagreements:
    """By the witness's name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._claims: dict[str, _Claim] = {}

    @property
    def sentences(self) -> Mapping[str, str]:
        """What each of them says, for people."""
        return {name: claim.sentence for name, claim in self._claims.items()}

    def waits(self, name: str) -> bool:
        """Whether it is too early to ask this one again."""
        claim = self._claims.get(name)
        return claim is not None and self._clock.monotonic_ms() < claim.again_at_ms

    def add(self, name: str, sentence: str) -> bool:
        """It disagrees, now or still; whether that is new."""
        before = self._claims.get(name)
        times = 1 if before is None else before.times + 1
        pause_ms = min(BACK_OFF_MS_MAX, BACK_OFF_MS_MIN << min(times, 20))
        again_at_ms = self._clock.monotonic_ms() + pause_ms
        self._claims[name] = _Claim(sentence=sentence, times=times, again_at_ms=again_at_ms)
        return before is None

    def end(self, name: str) -> None:
        """It vouches again."""
        self._claims.pop(name, None)

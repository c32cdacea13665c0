"""What the box says about its own trustworthiness: last verification, followers' lag, where each key lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from appliance.anchor.follower import Standing
from appliance.device.scrubber import Scrubber


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHome:
    """One key and where it lives.

    Attributes:
        purpose: `log_classical`, `log_post_quantum`, `log_note` (where it is a key of its own) or `kek`.
        public_key: SubjectPublicKeyInfo in hexadecimal; empty for a symmetric key.
        home: `token` or `envelope` (opened by the token at each start, then in the process's memory).
        asserted: what was proven when the key was opened, in PKCS#11's words; empty for an envelope.
    """

    purpose: str
    algorithm: str
    key_id: str
    public_key: str
    home: str
    asserted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """The HSM as configured, and a sentence about what that is worth."""

    module: str
    label: str
    is_test_token: bool
    sentence: str


class Integrity:
    """Gathers; reads memory only."""

    def __init__(
        self,
        *,
        scrubber: Scrubber,
        followers: Callable[[], Sequence[Standing]],
        token: TokenFacts,
        keys: Sequence[KeyHome],
    ) -> None:
        self._scrubber = scrubber
        self._followers = followers
        self._token = token
        self._keys = tuple(keys)

    def verify_now(self) -> dict[str, Any]:
        """Start a verification, unless one runs. Raises Rejected `verified_just_now`."""
        self._scrubber.ask()
        return self.report()

    def report(self) -> dict[str, Any]:
        """Everything, for JSON."""
        progress, last = self._scrubber.progress, self._scrubber.last
        return {
            "running": None if progress is None else asdict(progress),
            "last": None if last is None else {**asdict(last), "root": last.root.hex(), "is_right": not last.code},
            "followers": [asdict(standing) for standing in self._followers()],
            "token": asdict(self._token),
            "keys": [asdict(key) for key in self._keys],
        }

"""Run a client through the scenarios: one process per sale, one line of JSON back, one score.

Owns processes and folders of a run. It ends only processes that it started, and listens on loopback alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.crypto.signing_key import TerminalKey
from appliance.model.errors import Rejected
from appliance.ports.clock import Clock
from appliance.wire.requests import Seen
from provisioning.conform.box import ScriptedBox
from provisioning.conform.identity import BoxIdentity
from provisioning.conform.sales import Sales
from provisioning.conform.scenarios import Observed, Scenario
from provisioning.conform.scripted_log import ScriptedLog
from provisioning.terminal import key_file
from provisioning.terminal.durable import write_durably
from provisioning.terminal.home import Profile, TerminalHome

TERMINAL: Final = "conform-till"
CURRENCY: Final = "EUR"
_GRACE_MS: Final = 15_000
"""A client's own start-up and end, on top of the deadline that it was given."""
_OUTPUT_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One scenario, judged: each check's sentence and whether it held."""

    scenario: Scenario
    result: str
    checks: tuple[tuple[str, bool], ...]

    @property
    def points(self) -> int:
        return sum(held for _, held in self.checks)

    @property
    def is_full(self) -> bool:
        return self.points == len(self.checks)


class Conformance:
    """Scores one client, given as a command template."""

    def __init__(self, *, command: str, identity: BoxIdentity, folder: Path, clock: Clock) -> None:
        """`command` is split like a shell does, then its placeholders are filled; no shell runs it.

        Raises:
            Rejected: `command_malformed`: no words, or an unknown placeholder.
        """
        self._words = _split(command)
        self._identity = identity
        self._folder = folder
        self._clock = clock
        _fill(self._words, dict.fromkeys(PLACEHOLDERS, ""))

    async def run(self, scenarios: tuple[Scenario, ...]) -> AsyncIterator[Score]:
        """Score after score, as they are known."""
        for scenario in scenarios:
            yield await self._score(scenario)

    async def _score(self, scenario: Scenario) -> Score:
        folder = self._folder / scenario.name
        home = TerminalHome(folder=folder)
        key = await asyncio.to_thread(self._furnish, home)
        log = ScriptedLog(identity=self._identity)
        sales = Sales(log=log, clock=self._clock, terminal=TERMINAL)
        box = ScriptedBox(
            identity=self._identity,
            sales=sales,
            public_key=key.public_key,
            terminal=TERMINAL,
            currency=CURRENCY,
            clock=self._clock,
        )
        async with box.serve(folder) as url:
            await asyncio.to_thread(self._introduce, home, url)
            seen: Seen | None = None
            result = "nothing"
            for number, script in enumerate(scenario.sales):
                box.begin(script)
                seen = log.head if number else None
                result = await self._sell(home, url, 1_000 + number, scenario.deadline_ms)
            observed = Observed(
                result=result,
                heard=box.heard,
                faults=box.faults,
                script=scenario.sales[-1],
                seen=seen,
                shown=box.shown,
            )
        checks = tuple((check.sentence, check.holds(observed)) for check in scenario.all_checks)
        return Score(scenario=scenario, result=result, checks=checks)

    def _furnish(self, home: TerminalHome) -> TerminalKey:
        """What pairing would have left behind, but for the address."""
        home.folder.mkdir()
        write_durably(home.folder / "ca.pem", self._identity.authority_pem)
        home.keep_trust(self._identity.trust.decode())
        return key_file.make(home.key_file)

    def _introduce(self, home: TerminalHome, url: str) -> None:
        home.keep_profile(
            Profile(url=url, terminal=TERMINAL, audience=self._identity.audience, currency=CURRENCY, ca_file="ca.pem")
        )

    async def _sell(self, home: TerminalHome, url: str, amount_minor: int, deadline_ms: int) -> str:
        """Start the client for one sale; returns its word, or "nothing"."""
        values = {
            "url": url,
            "ca": str(home.folder / "ca.pem"),
            "certificate": hashlib.sha256(self._identity.certificate_der).hexdigest(),
            "key": str(home.key_file),
            "terminal": TERMINAL,
            "audience": self._identity.audience,
            "currency": CURRENCY,
            "trust": str(home.trust_file),
            "home": str(home.folder),
            "amount_minor": str(amount_minor),
            "deadline_ms": str(deadline_ms),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *_fill(self._words, values),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                limit=_OUTPUT_BYTES_MAX,
            )
        except OSError as cause:
            raise Rejected("command_missing", f"{self._words[0]} cannot be started: {cause.strerror}") from cause
        result = "nothing"
        try:
            async with asyncio.timeout((deadline_ms + _GRACE_MS) / 1_000):
                if process.stdout is not None:
                    async for line in process.stdout:
                        result = _word(line) or result
                await process.wait()
        except (TimeoutError, ValueError):  # too slow, or a line without end
            pass
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return result


PLACEHOLDERS: Final = (
    "url",
    "ca",
    "certificate",
    "key",
    "terminal",
    "audience",
    "currency",
    "trust",
    "home",
    "amount_minor",
    "deadline_ms",
)
_WORDS: Final = frozenset({"approved", "declined", "refused", "unknown"})


def _split(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as cause:
        raise Rejected("command_malformed", f"expected a command: {cause}") from cause
    if not words:
        raise Rejected("command_malformed", "expected a command")
    return words


def _fill(words: list[str], values: Mapping[str, str]) -> list[str]:
    try:
        return [word.format_map(values) for word in words]
    except (KeyError, ValueError, IndexError) as cause:
        raise Rejected("command_malformed", f"expected placeholders out of {', '.join(PLACEHOLDERS)}") from cause


def _word(line: bytes) -> str | None:
    """The result in a line of output; other lines are the client's own business."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    result = said.get("result") if isinstance(said, dict) else None
    return result if isinstance(result, str) and result in _WORDS else None

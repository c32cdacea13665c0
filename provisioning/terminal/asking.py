"""One question until it has one answer: the same key, the same payload, a new signature each time.

Owns signing, pauses and the reading of refusals (`verdict.py`). Must never make a new key for an old question, nor
report as failed what may have happened.

Source: docs/formats/terminal-protocol.md section 7.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from appliance.crypto.signing_key import TerminalKey
from appliance.model.errors import OutcomeUnknown, Rejected, TillstoneError, Unavailable
from appliance.model.ids import RequestKey, new_request_key
from appliance.ports.clock import Clock
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import Problem
from appliance.wire.requests import Claims, HeadBody, Seen, Verb, Wire
from provisioning.terminal import verdict
from provisioning.terminal.home import Profile
from provisioning.terminal.link import Link
from provisioning.terminal.memory import TerminalMemory
from provisioning.terminal.signing import Encoding, read_answer, sign
from provisioning.terminal.verdict import Verdict

AnswerT = TypeVar("AnswerT", bound=Wire)

ATTEMPT_MS_MAX: Final = 10_000  # the box answers within 1 s of the durable result, and 202 at once for a card
ATTEMPT_MS_MIN: Final = 2_000
"""An attempt with less time than this is not begun again: cut off, it would turn a clear "not now" into "unknown"."""
PAUSE_MS_MIN: Final = 200
PAUSE_MS_MAX: Final = 5_000
HEAD_EVIDENCE_NEEDED: Final = "head_evidence_needed"
CLOCK_LESSONS_MAX: Final = 2  # the first may be stale when the box's own clock steps; a third would be a loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Said(Generic[AnswerT]):
    """An answer, and the head that was known when the question left."""

    answer: AnswerT
    seen: Seen | None


class Asker:
    """Speaks for one terminal to one box."""

    def __init__(
        self,
        *,
        profile: Profile,
        key: TerminalKey,
        link: Link,
        memory: TerminalMemory,
        clock: Clock,
        random: Callable[[int], bytes],
        encoding: Encoding,
    ) -> None:
        self._profile = profile
        self._key = key
        self._link = link
        self._memory = memory
        self._clock = clock
        self._random = random
        self._encoding = encoding

    def new_key(self) -> RequestKey:
        """A UUIDv7 dated by the box's clock, as far as it is known."""
        return new_request_key(self._box_now_ms(), self._random(10))

    def claims(self, verb: Verb, key: RequestKey, body: Wire) -> Claims:
        """What is signed now: only `signed_at_ms` and `seen` may differ between two attempts."""
        members: dict[str, object] = msgspec.to_builtins(body)
        return Claims(
            v=1,
            verb=verb,
            audience=self._profile.audience,
            terminal=self._profile.terminal,
            key=str(key),
            signed_at_ms=self._box_now_ms(),
            body=members,
            seen=self._memory.seen,
        )

    async def ask(
        self, verb: Verb, key: RequestKey, body: Wire, expected: type[AnswerT], deadline: Deadline
    ) -> Said[AnswerT]:
        """Ask until answered.

        Raises:
            Rejected: the box says no, and nothing happened under `key`.
            Unavailable: the deadline passed, or the box needs a person, and no attempt can have happened.
            OutcomeUnknown: the deadline passed, or the box turned away, after an attempt that may have happened.
        """
        doubt: TillstoneError | None = None
        lessons = 0
        has_shown_head = False
        for attempt in itertools.count():
            pause_ms = self.pause_ms(attempt)
            claims = self.claims(verb, key, body)
            try:
                reply = await self._link.post(
                    f"/v1/{verb}",
                    sign(self._key, claims, self._encoding),
                    self._encoding,
                    deadline.at_most(ATTEMPT_MS_MAX),
                )
                if verdict.of(reply.status, "") is Verdict.ANSWERED:
                    return Said(answer=read_answer(reply.content_type, reply.body, expected), seen=claims.seen)
                problem = read_answer(reply.content_type, reply.body, Problem)
            except Unavailable as nothing_sent:
                last: TillstoneError = nothing_sent
            except OutcomeUnknown as lost:
                doubt = last = lost
            else:
                last = Unavailable(problem.code, problem.detail)
                pause_ms = max(pause_ms, reply.retry_after_ms or 0)
                ruling = verdict.of(reply.status, problem.code)
                if ruling is Verdict.LEARN_CLOCK and lessons < CLOCK_LESSONS_MAX:
                    lessons += 1
                    await self.learn_clock(problem.now_ms)
                    continue
                if problem.code == HEAD_EVIDENCE_NEEDED and self._memory.proof is not None and not has_shown_head:
                    has_shown_head = True
                    await self._show_head(self._memory.proof, deadline)
                    continue
                if ruling is Verdict.MAY_HAVE_HAPPENED:
                    doubt = last
                elif ruling is not Verdict.SAME_KEY_LATER:
                    raise _refusal(ruling, problem, doubt)
                if problem.code in verdict.NEEDS_A_PERSON:
                    raise _gave_up(key, last, doubt)
            if deadline.remaining_ms <= pause_ms + ATTEMPT_MS_MIN:
                raise _gave_up(key, last, doubt)
            await self._clock.sleep(pause_ms)
        raise _gave_up(key, Unavailable("box_unreachable", "no attempt was made"), doubt)

    async def _show_head(self, proof: HeadBody, deadline: Deadline) -> None:
        """The box says that its log does not contain the head we verified: prove it. What it thinks, it says next."""
        claims = msgspec.structs.replace(self.claims("head", self.new_key(), proof), seen=None)
        with contextlib.suppress(Unavailable, OutcomeUnknown):
            await self._link.post(
                "/v1/head",
                sign(self._key, claims, self._encoding),
                self._encoding,
                deadline.at_most(ATTEMPT_MS_MAX),
            )

    async def learn_clock(self, box_now_ms: int) -> None:
        """Sign by the box's clock from now on; the terminal's own clock is left alone."""
        await self._memory.learn_clock(box_now_ms - self._clock.now_ms())

    def pause_ms(self, attempt: int) -> int:
        """Doubling from 200 ms to 5 s, half of it by chance, so that tills do not come back in step."""
        bound_ms = min(PAUSE_MS_MAX, PAUSE_MS_MIN << min(attempt, 8))
        return bound_ms // 2 + int.from_bytes(self._random(2), "big") % (bound_ms // 2 + 1)

    def _box_now_ms(self) -> int:
        return self._clock.now_ms() + self._memory.clock_offset_ms


def _refusal(ruling: Verdict, problem: Problem, doubt: TillstoneError | None) -> TillstoneError:
    """Being turned away does not prove that an earlier attempt came to nothing."""
    if doubt is not None and ruling is not Verdict.REFUSED:
        return OutcomeUnknown("outcome_unknown", f"{problem.code} after a lost answer: {problem.detail}")
    return Rejected(problem.code, problem.detail)


def _gave_up(key: RequestKey, last: TillstoneError, doubt: TillstoneError | None) -> TillstoneError:
    if doubt is None:
        return Unavailable(last.code, last.detail)
    return OutcomeUnknown("outcome_unknown", f"no answer about {key} in time ({doubt.code}); ask again or reverse it")

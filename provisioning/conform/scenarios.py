"""The scenarios and their points: a table of what the box does, what the client must say, and what is looked at.

Owns the judgement. A check is one point; a scenario's checks are independent, so that a score tells what to mend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.wire.requests import Seen
from provisioning.conform.box import CLOCK_SKEW_MS_MAX, Heard
from provisioning.conform.script import Act, Script
from provisioning.conform.scripted_log import Forgery

_HOUR_MS: Final = 3_600_000
_TIMER_SLACK_MS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One sale as the box saw it and the client told it.

    Attributes:
        result: the client's word, or "nothing" when it printed none.
        seen: the head that the client should have known before the sale.
        shown: the heads that it proved with the log's signatures.
    """

    result: str
    heard: Sequence[Heard]
    faults: Sequence[str]
    script: Script
    seen: Seen | None
    shown: Sequence[Seen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One point."""

    sentence: str
    holds: Callable[[Observed], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Sales made one after the other by the same client home; the last one is judged."""

    name: str
    area: str
    story: str
    expected: str
    sales: tuple[Script, ...]
    checks: tuple[Check, ...] = field(default=())
    deadline_ms: int = 8_000

    @property
    def all_checks(self) -> tuple[Check, ...]:
        said = Check(sentence=f"says {self.expected}", holds=lambda seen: seen.result == self.expected)
        return (said, *self.checks)


def _has_one_key(seen: Observed) -> bool:
    return len({heard.claims.key for heard in seen.heard}) == 1


def _has_one_payload(seen: Observed) -> bool:
    return len({heard.payload for heard in seen.heard}) == 1


def _waited(seen: Observed) -> bool:
    return (
        len(seen.heard) > 1
        and seen.heard[1].at_ms - seen.heard[0].at_ms >= seen.script.retry_after_s * 1_000 - _TIMER_SLACK_MS
    )


def _signed_by_box_clock(seen: Observed) -> bool:
    if not seen.heard:
        return False
    last = seen.heard[-1]
    return abs(last.claims.signed_at_ms - last.box_now_ms) <= CLOCK_SKEW_MS_MAX


ONE_KEY: Final = Check(sentence="uses one key for the sale", holds=_has_one_key)
SAME_PAYLOAD: Final = Check(sentence="repeats the same payload", holds=_has_one_payload)
TRIES_AGAIN: Final = Check(sentence="tries again", holds=lambda seen: len(seen.heard) > 1)
ASKS_ONCE: Final = Check(sentence="takes the refusal as final", holds=lambda seen: len(seen.heard) == 1)
WAITS: Final = Check(sentence="waits as long as Retry-After says", holds=_waited)
BOX_CLOCK: Final = Check(sentence="signs by the box's clock", holds=_signed_by_box_clock)
TELLS_SEEN: Final = Check(
    sentence="tells the highest head it has seen",
    holds=lambda seen: bool(seen.heard) and seen.heard[-1].claims.seen == seen.seen,
)
SHOWS_HEAD: Final = Check(
    sentence="shows the signed head that it told", holds=lambda seen: list(seen.shown) == [seen.seen]
)
NO_FAULTS: Final = Check(
    sentence="speaks the protocol without a fault", holds=lambda seen: bool(seen.heard) and not seen.faults
)
NOT_CALLED_FAILED: Final = Check(
    sentence="does not call it failed", holds=lambda seen: seen.result not in ("refused", "declined")
)
NOT_CALLED_PAID: Final = Check(sentence="does not call it paid", holds=lambda seen: seen.result != "approved")
_RETRY: Final = (TRIES_AGAIN, ONE_KEY, SAME_PAYLOAD, NOT_CALLED_FAILED)
_DOUBT: Final = (ONE_KEY, NOT_CALLED_FAILED, NOT_CALLED_PAID)


def _retry(name: str, story: str, *acts: Act, checks: tuple[Check, ...] = ()) -> Scenario:
    return Scenario(
        name=name, area="retry", story=story, expected="approved", sales=(Script(acts=acts),), checks=_RETRY + checks
    )


def _doubt(name: str, area: str, story: str, script: Script, *before: Script) -> Scenario:
    return Scenario(
        name=name,
        area=area,
        story=story,
        expected="unknown",
        sales=(*before, script),
        checks=_DOUBT,
        deadline_ms=4_000,
    )


def _forged(forgery: Forgery, story: str) -> Scenario:
    return _doubt(f"receipt_{forgery.value}", "receipt", story, Script(forgery=forgery))


def all_scenarios(base_size: int) -> tuple[Scenario, ...]:
    """Every scenario; `base_size` is a log size from before the first sale of a scenario."""
    return (*_basics(), *_retries(), *_unknowns(), *_clocks(), *_replays(base_size), *_forgeries())


def _basics() -> tuple[Scenario, ...]:
    return (
        Scenario(
            name="plain",
            area="basics",
            story="a cash sale, answered at once",
            expected="approved",
            sales=(Script(),),
            checks=(NO_FAULTS, ONE_KEY),
        ),
        Scenario(
            name="refused",
            area="basics",
            story="422: the box says no to this sale",
            expected="refused",
            sales=(Script(acts=(Act.REFUSE,), then=Act.REFUSE),),
            checks=(ASKS_ONCE,),
        ),
    )


def _retries() -> tuple[Scenario, ...]:
    return (
        _retry("answer_lost", "recorded, then the line breaks", Act.DROP_AFTER),
        _retry("answer_lost_twice", "recorded, then the line breaks, two times", Act.DROP_AFTER, Act.DROP_AFTER),
        _retry("request_lost", "the line breaks before anything is recorded", Act.DROP_BEFORE),
        _retry("opaque_error", "recorded, then a 500", Act.ERROR_AFTER),
        _retry("half_an_answer", "recorded, then half an answer under a 200", Act.GARBLE_AFTER),
        _retry("busy", "503 with Retry-After", Act.BUSY, checks=(WAITS,)),
    )


def _unknowns() -> tuple[Scenario, ...]:
    deaf = Script(then=Act.DROP_AFTER, is_deaf=True)
    forgetful = Script(ending="never", is_forgetful=True)
    return (
        Scenario(
            name="resolves_late",
            area="unknown",
            story="202, and approved a little later",
            expected="approved",
            sales=(Script(ending="approved"),),
            checks=(ONE_KEY, NOT_CALLED_FAILED),
        ),
        Scenario(
            name="declines_late",
            area="unknown",
            story="202, and declined a little later",
            expected="declined",
            sales=(Script(ending="declined"),),
            checks=(ONE_KEY, NOT_CALLED_PAID),
        ),
        Scenario(
            name="signature_late",
            area="unknown",
            story="durable, and the receipt comes with the third answer",
            expected="approved",
            sales=(Script(pending_answers=2),),
            checks=(ONE_KEY, NOT_CALLED_FAILED),
        ),
        _doubt("never_resolved", "unknown", "202, and no end in sight", Script(ending="never")),
        _doubt("never_answered", "unknown", "recorded, and every line breaks", deaf),
        _doubt("accepted_then_denied", "unknown", "202, and later the box knows nothing of it", forgetful),
    )


def _clocks() -> tuple[Scenario, ...]:
    return tuple(
        Scenario(
            name=name,
            area="clock",
            story=f"the box's clock is {story}",
            expected="approved",
            sales=(Script(clock_offset_ms=offset_ms),),
            checks=(BOX_CLOCK, ONE_KEY, SAME_PAYLOAD),
        )
        for name, story, offset_ms in (
            ("clock_ahead", "two hours ahead", 2 * _HOUR_MS),
            ("clock_behind", "three hours behind", -3 * _HOUR_MS),
        )
    )


def _replays(base_size: int) -> tuple[Scenario, ...]:
    answer, receipt = Script(then=Act.ANSWER_OF_ANOTHER), Script(then=Act.RECEIPT_OF_ANOTHER)
    return (
        _doubt("answer_replayed", "replay", "a genuine answer to another sale", answer),
        _doubt("receipt_replayed", "replay", "the genuine receipt of another sale", receipt),
        _doubt("log_went_back", "replay", "after a restart the log is shorter", Script(log_size=base_size), Script()),
        Scenario(
            name="head_remembered",
            area="replay",
            story="a second sale at an honest box",
            expected="approved",
            sales=(Script(), Script()),
            checks=(TELLS_SEEN,),
        ),
        Scenario(
            name="head_doubted",
            area="replay",
            story="at a second sale the box asks for the signed head, and believes it",
            expected="approved",
            sales=(Script(), Script(acts=(Act.DOUBT_HEAD,))),
            checks=(SHOWS_HEAD, *_RETRY),
        ),
    )


def _forgeries() -> tuple[Scenario, ...]:
    return (
        _forged(Forgery.ENTRY_CHANGED, "one bit of the entry is changed"),
        _forged(Forgery.CLASSICAL_CHANGED, "one bit of the classical signature is changed"),
        _forged(Forgery.POST_QUANTUM_CHANGED, "one bit of the post-quantum signature is changed"),
        _forged(Forgery.FOREIGN_KEYS, "signed by keys that the owner never vouched for"),
    )

"""How a payment was screened: the verdict, and the reasons that stand behind it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from appliance.model.errors import Rejected


class Rule(StrEnum):
    """What looks at a sale or a refund."""

    VELOCITY = "velocity"
    SALE_CEILING = "sale_ceiling"
    HOUR_CEILING = "hour_ceiling"
    HOURS = "hours"
    REFUND_VELOCITY = "refund_velocity"
    OFFLINE_EXPOSURE = "offline_exposure"
    MODEL = "model"


class Judgement(StrEnum):
    """What screening said."""

    PASSED = "passed"  # no rule spoke
    WATCHED = "watched"  # one spoke that may only watch, or about what had happened already
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A rule that spoke: what it saw, and the limit as it was then."""

    rule: Rule
    seen: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What screening said of one sale or refund, complete enough to be understood years later.

    Attributes:
        at_ms: the time that it was judged for.
        score_permille: what the model thinks, 0 to 1000; None where no model looked.
        model_sha256: of the model's file.
    """

    at_ms: int
    judgement: Judgement
    reasons: tuple[Reason, ...] = ()
    score_permille: int | None = None
    model_sha256: bytes | None = None


class ScreeningRefused(Rejected):
    """Refused by a rule; the cashier hears no limit and no score, the ledger keeps them."""

    def __init__(self, verdict: Verdict, rule: Rule, amount_minor: int) -> None:
        code, detail = _TOLD.get(rule, ("screening_refused", "this needs the owner: ask for help, or wait"))
        super().__init__(code, detail)
        self.verdict = verdict
        self.amount_minor = amount_minor


# What a cashier may know without learning how far he can go.
_TOLD = {
    Rule.SALE_CEILING: ("sale_above_ceiling", "the sale is larger than this shop sells without its owner"),
    Rule.HOURS: ("terminal_out_of_hours", "this shop's tills take nothing at this hour"),
}

"""What the scripted box does in one sale, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from provisioning.conform.scripted_log import Forgery


class Act(Enum):
    """What happens to one payment request."""

    SERVE = "serve"
    DROP_BEFORE = "drop_before"
    """The connection breaks and nothing was recorded."""
    DROP_AFTER = "drop_after"
    """The sale is recorded, then the connection breaks."""
    ERROR_AFTER = "error_after"
    """The sale is recorded, then an opaque 500."""
    GARBLE_AFTER = "garble_after"
    """The sale is recorded, then half an answer under a 200."""
    BUSY = "busy"
    """503 with Retry-After; nothing was recorded."""
    REFUSE = "refuse"
    """422; nothing was recorded."""
    DOUBT_HEAD = "doubt_head"
    """428 asking for the signed head; nothing was recorded."""
    ANSWER_OF_ANOTHER = "answer_of_another"
    """The sale is recorded; the answer and receipt of an older sale come back, both genuine."""
    RECEIPT_OF_ANOTHER = "receipt_of_another"
    """The sale is recorded; the answer is about it, the receipt about an older one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One sale.

    Attributes:
        acts: for the first payment requests, in order; `then` is for all later ones, and for `status`.
        ending: None records the sale at once; else it is being checked until `ending_after_ms` have passed.
        pending_answers: so many answers come without their receipt.
        clock_offset_ms: the box's clock less the true time.
        is_deaf: `status` and events break off, too.
        is_forgetful: `status` denies the payment that was accepted.
        log_size: the log is cut to this before the sale.
    """

    acts: tuple[Act, ...] = ()
    then: Act = Act.SERVE
    ending: Literal["approved", "declined", "never"] | None = None
    ending_after_ms: int = 1_500
    pending_answers: int = 0
    clock_offset_ms: int = 0
    retry_after_s: int = 2
    forgery: Forgery = Forgery.NONE
    is_deaf: bool = False
    is_forgetful: bool = False
    log_size: int | None = None

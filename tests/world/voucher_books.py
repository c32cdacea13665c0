"""What tills asked and heard of vouchers.

Owns a memory that no crash touches, beside `books.py`. Must never look into the box: `invariants_vouchers.py` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.wire.answers import VoucherAnswer
from appliance.wire.requests import VoucherBody


@dataclass(slots=True, kw_only=True)
class VoucherBooks:
    """Kept by all tills together.

    Attributes:
        acts: each issue and each taking back ever asked for, by its key.
        done: what was told of each, with its receipt.
        codes: what each code was worth when it was issued.
    """

    acts: dict[str, VoucherBody] = field(default_factory=dict)
    done: dict[str, VoucherAnswer] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)

    def hear(self, key: str, answer: VoucherAnswer) -> None:
        self.done[key] = answer
        if answer.code is not None:
            self.codes[answer.code] = answer.amount_minor

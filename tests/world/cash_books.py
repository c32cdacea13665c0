"""What tills asked and heard of their drawers, X and Z, and what the operator heard of the shop's days.

Owns a memory that no crash touches, beside `books.py`. Must never look into the box: `invariants_till.py` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.wire.requests import DrawerBody, ReportBody
from appliance.wire.till_entries import DayClosedEntry, PeriodFacts


@dataclass(slots=True, kw_only=True)
class CashBooks:
    """Kept by all tills together.

    Attributes:
        acts, reports: each ever asked for, by its key.
        done: what the box said that a drawer held after an act, by the act's key, with its entry.
        read: periods that were told open (X).
        closed: periods that were told closed (Z), and days, by their entries.
    """

    acts: dict[str, DrawerBody] = field(default_factory=dict)
    reports: dict[str, ReportBody] = field(default_factory=dict)
    done: dict[str, tuple[int, int]] = field(default_factory=dict)
    read: list[PeriodFacts] = field(default_factory=list)
    closed: dict[int, PeriodFacts] = field(default_factory=dict)
    days: dict[int, DayClosedEntry] = field(default_factory=dict)

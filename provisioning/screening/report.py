"""The trainer's report, in words that do not promise more than simulated data can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one way of judging did on the tills kept apart; `spoken`: how often it spoke."""

    name: str
    average_precision: float
    precision: float
    recall: float
    spoken: int


def report(
    outcomes: Sequence[Outcome],
    *,
    seed: int,
    limit: int,
    sha256: str,
    trained: tuple[int, int],
    tested: tuple[int, int],
) -> str:
    """Markdown. `trained` and `tested` count examples, and the frauds among them."""
    lines = [
        "# Screening model: how good it is at simulated fraud",
        "",
        "**All of this is simulated** (`provisioning/screening/simulate.py`): tills, customers and thieves are",
        "guesses of ours. The figures say that the model learned our guesses better than the others did; they say",
        "nothing of how much fraud it finds in a shop. That is why it ships in mode `watch`.",
        "",
        f"Seed {seed}; trained on {trained[0]} sales and refunds ({trained[1]} of a fraud), judged on {tested[0]}",
        f"({tested[1]} of a fraud, {tested[1] / max(tested[0], 1):.2%}) at tills that no training saw.",
        f"Threshold {limit} of 1000. SHA-256 of the model: `{sha256}`.",
        "",
        "| | Average precision | Precision | Recall | Spoke |",
        "|---|---|---|---|---|",
        *(
            f"| {each.name} | {each.average_precision:.3f} | {each.precision:.3f} | {each.recall:.3f} | {each.spoken} |"
            for each in outcomes
        ),
        "",
    ]
    return "\n".join(lines)

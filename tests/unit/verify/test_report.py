"""What a verdict looks like: laid out for a terminal, whole lines for a file or a pipe."""

from __future__ import annotations

import io

from provisioning.verify.report import Report, Step, show

LONG = "word " * 60 + "end"


def shown(report: Report) -> list[str]:
    stream = io.StringIO()
    show(report, "The receipt", stream)
    return stream.getvalue().splitlines()


def test_a_pipe_gets_one_whole_line_per_step_without_padding() -> None:
    steps = (Step(name="path", ok=True, detail=LONG), Step(name="log", ok=False, detail="[no markup]"))
    lines = shown(Report(steps=steps, code="receipt_proof_wrong", hint=LONG, not_reached=("meaning",)))
    assert lines == [
        f"✓ path: {LONG}",
        "✗ log: [no markup]",
        "– meaning: not reached",
        "The receipt cannot be believed (receipt_proof_wrong).",
        LONG,
    ]


def test_a_pipe_gets_what_is_missing_and_what_is_said_as_lines_of_their_own() -> None:
    step = Step(name="path", ok=True, detail="it leads there")
    report = Report(
        steps=(step,),
        absent={"witnesses": LONG},
        caveats=(("block", "regtest"),),
        sentences=(LONG,),
        verdict="is genuine",
    )
    assert shown(report) == [
        "✓ path: it leads there",
        f"○ witnesses: missing, {LONG}",
        "! block: regtest",
        f"→ {LONG}",
        "The receipt is genuine.",
    ]

"""The scores tell a good till from two that would cost a shop money, and the shell script of the docs is a good one."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import pytest

from provisioning.conform.command import OWN_CLIENT, score
from provisioning.conform.identity import BoxIdentity, make_identity
from provisioning.conform.run import Score
from provisioning.conform.sales import BASE_SIZE
from provisioning.conform.scenarios import all_scenarios

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = PROJECT / "provisioning/terminal/sale.sh"

BAD_TILL = '''
"""A till that sells, and does one thing that no till may do."""
import argparse, asyncio, json
from pathlib import Path
from appliance.model.errors import OutcomeUnknown, TillstoneError
from appliance.runtime.clock import SystemClock
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.terminal.client import open_terminal
from provisioning.terminal.home import TerminalHome

async def sell(options):
    body = PaymentBody(currency="EUR", amount_minor=700, tenders=(TenderBody(kind="cash", amount_minor=700),))
    async with open_terminal(TerminalHome(folder=options.home), clock=SystemClock()) as till:
        for _ in range(3):
            try:
                # So little patience that every lost answer comes back to this loop.
                answer = await till.payment(body, key=till.new_key(), deadline=till.deadline(options.patience_ms))
                return "approved" if answer.state == "approved" else "unknown"
            except OutcomeUnknown:
                if options.sin == "calls_timeout_failed":
                    return "refused"
            except TillstoneError:
                return "refused"
    return "unknown"

parser = argparse.ArgumentParser()
parser.add_argument("--home", type=Path)
parser.add_argument("--sin")
parser.add_argument("--patience-ms", type=int)
options = parser.parse_args()
print(json.dumps({"result": asyncio.run(sell(options))}))
'''

SHELL_TILL = """
answer=$("$1" "$2" "$3" "$4" "$5" "$6" "$7") && code=0 || code=$?
case $code in
  0) case $answer in *'"state":"approved"'*) echo '{"result":"approved"}' ;; *) echo '{"result":"unknown"}' ;; esac ;;
  1) echo '{"result":"refused"}' ;;
  *) echo '{"result":"unknown"}' ;;
esac
"""


@pytest.fixture(scope="module")
def identity() -> BoxIdentity:
    return make_identity(time.time_ns() // 1_000_000)


async def _scores(identity: BoxIdentity, folder: Path, command: str, *names: str) -> dict[str, Score]:
    chosen = tuple(each for each in all_scenarios(BASE_SIZE) if not names or each.name in names)
    return {each.scenario.name: each for each in await score(command, chosen, folder=folder, identity=identity)}


def _lost(scores: dict[str, Score]) -> dict[str, list[str]]:
    lost = {name: [sentence for sentence, held in each.checks if not held] for name, each in scores.items()}
    return {name: sentences for name, sentences in lost.items() if sentences}


async def test_our_own_client_loses_no_point(identity: BoxIdentity, tmp_path: Path) -> None:
    assert _lost(await _scores(identity, tmp_path, OWN_CLIENT)) == {}


async def test_our_own_client_loses_no_point_in_json(identity: BoxIdentity, tmp_path: Path) -> None:
    scores = await _scores(
        identity,
        tmp_path,
        OWN_CLIENT + " --encoding jws",
        "plain",
        "answer_lost",
        "busy",
        "clock_ahead",
        "head_doubted",
    )
    assert _lost(scores) == {}


async def test_shell_script_of_the_docs_keeps_its_key(identity: BoxIdentity, tmp_path: Path) -> None:
    wrapper = tmp_path / "till.sh"
    wrapper.write_text(SHELL_TILL)
    values = "{url} {ca} {key} {terminal} {audience} {amount_minor}"
    command = f"sh {shlex.quote(str(wrapper))} {shlex.quote(str(SCRIPT))} {values}"
    scores = await _scores(
        identity, tmp_path, command, "plain", "refused", "answer_lost", "opaque_error", "busy", "clock_behind"
    )
    lost = _lost(scores)
    lost.pop("busy", None)  # it waits a second, not as long as it was told
    assert lost == {}


def _bad_till(folder: Path, sin: str, patience_ms: int) -> str:
    script = folder / "bad_till.py"
    script.write_text(BAD_TILL)
    words = [sys.executable, str(script), "--sin", sin, "--patience-ms", str(patience_ms)]
    return shlex.join(words) + " --home {home}"


async def test_till_that_makes_a_new_key_on_retry_loses_the_points_for_it(
    identity: BoxIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    command = _bad_till(tmp_path, "new_key_on_retry", 90)
    lost = _lost(await _scores(identity, tmp_path, command, "plain", "never_answered"))
    assert "plain" not in lost
    assert "uses one key for the sale" in lost["never_answered"]


async def test_till_that_calls_a_timeout_failed_loses_the_points_for_it(
    identity: BoxIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    command = _bad_till(tmp_path, "calls_timeout_failed", 3_000)
    lost = _lost(await _scores(identity, tmp_path, command, "plain", "never_answered", "receipt_entry_changed"))
    assert "plain" not in lost
    assert "does not call it failed" in lost["never_answered"]
    assert "does not call it failed" in lost["receipt_entry_changed"]


async def test_program_that_prints_nothing_scores_nothing_where_it_matters(
    identity: BoxIdentity, tmp_path: Path
) -> None:
    scores = await _scores(identity, tmp_path, "true", "plain", "never_answered")
    assert scores["plain"].points == 0
    assert not scores["never_answered"].is_full

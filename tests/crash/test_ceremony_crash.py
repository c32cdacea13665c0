"""The power goes around every durable write of a ceremony: run again, it ends as if nothing had happened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from provisioning.ceremony.record import read_record
from provisioning.ceremony.run import all_steps
from tests.crash.dying_installer import DEAD
from tests.integration.box import require_devices
from tests.integration.ceremony import Owner, Visit, command

DEATHS_MAX = 90


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    require_devices()
    return Owner(tmp_path_factory.mktemp("owner") / "computer")


def dies(visit: Visit, writes: int) -> bool:
    """Provision until the `writes`-th durable write; whether it came that far."""
    arguments = [str(argument) for argument in visit.arguments]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.dying_installer", str(writes), *arguments],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, DEAD), done.stderr
    return done.returncode == DEAD


def test_a_ceremony_that_dies_before_every_write_ends_as_one(owner: Owner, tmp_path: Path) -> None:
    visit = Visit(tmp_path)
    deaths = [_die_on(visit)]
    assert owner.sign(visit.stick).code == 0
    deaths.append(_die_on(visit))
    assert deaths[0] >= 8
    assert deaths[1] >= 15
    record = visit.provision("--json").json
    assert record["open"] is True
    assert [step["state"] for step in record["steps"]] == ["done"] * len(all_steps())
    said = command("provision", "verify", visit.stick / "transcript.cbor", "--trust", visit.stick / "trust.json")
    assert said.code == 0, said.out
    kinds = command("verify", "log", visit.box / "data", "--trust", visit.stick / "trust.json", "--json")
    assert kinds.code == 0, kinds.out + kinds.errors


def _die_on(visit: Visit) -> int:
    """Die at write 1, 2, ... of each step in turn, until a try reaches its end; how often it died."""
    deaths, writes, done = 0, 1, 0
    while dies(visit, writes):
        deaths += 1
        assert deaths < DEATHS_MAX
        now = len(read_record(visit.box).steps)
        # A death that let a record pass came before the first write of the step behind it.
        writes = writes + 1 if now == done else 2
        done = now
    return deaths

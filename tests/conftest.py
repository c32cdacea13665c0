"""Owns the rules that hold for every test: the event loop never blocks, and in CI nothing required is skipped.

Must never hold fixtures of one subsystem; those live beside their tests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster

PROJECT = Path(__file__).resolve().parent.parent

# Where our own code may block on the loop's thread, as (end of the file's path, function); a reason stands beside each.
BLOCKING_ALLOWED: tuple[tuple[str, str], ...] = (
    # The twin is a process of its own that nobody waits for; where a test runs it in its loop, its file is in memory.
    ("provisioning/sandbox/stripe_twin_store.py", "__init__"),
    ("provisioning/sandbox/stripe_twin_store.py", "_run"),
    ("provisioning/sandbox/stripe_twin_store.py", "close"),
)

# A skip with one of these reasons is honest everywhere: the thing is optional, or it is a file beside the checkout that
# this machine really lacks. Any other skip says that a required part is missing, and CI must not call that success.
OPTIONAL_PREFIX = "optional:"
SHARED_FILE = re.compile(r"\.\./shared/[\w./-]*\w")


@pytest.fixture(autouse=True, scope="session")
def event_loop_never_blocks() -> Iterator[None]:
    """Raise `BlockingError` where our code, on an event loop's thread, sleeps or waits for disk, lock or socket.

    Only stacks with our production code in them count: a test may read its own files as it likes.
    """
    detector = BlockBuster(["appliance", "drivers", "provisioning"])
    for function in detector.functions.values():
        for filename, name in BLOCKING_ALLOWED:
            function.can_block_in(filename, name)
    detector.activate()
    yield
    detector.deactivate()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn a test skipped for want of a required part into a failure."""
    report = yield
    if not hasattr(report, "wasxfail"):
        refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself as a whole."""
    report = yield
    refuse_skip(report)
    return report


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome != "skipped" or os.environ.get("CI") != "true":
        return
    reason = skip_reason(report.longrepr)
    if not may_skip(reason):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: a required part is missing in CI: {reason}"


def skip_reason(longrepr: object) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(text).removeprefix("Skipped: ")


def may_skip(reason: str) -> bool:
    named = SHARED_FILE.search(reason)
    return reason.startswith(OPTIONAL_PREFIX) or (named is not None and not (PROJECT / named.group()).exists())

"""Owns the promises of typing at a console: answers are whole and its own, failures are told, errors are noticed."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from image.console import Console
from tests.rig.box import SUSPICIOUS, BoxFailed, Prompt

SECONDS_MAX = 10.0


@pytest.fixture
def prompt(tmp_path: Path) -> Iterator[Prompt]:
    """A real shell behind a socket, as QEMU hands out a serial line."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        console = Console(tmp_path / "s", tmp_path / "log")
        line, _ = listening.accept()
        shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], stdin=line.fileno(), stdout=line.fileno(), stderr=line.fileno()
        )
        yield Prompt(console)
        line.close()
        shell.kill()
        shell.wait()
        console.close()


def test_answer_is_what_the_command_printed(prompt: Prompt) -> None:
    assert prompt.ask("printf 'one\\ntwo\\n'", SECONDS_MAX) == ["one", "two"]
    assert prompt.ask("true", SECONDS_MAX) == []


def test_files_arrive_as_they_were_meant(prompt: Prompt, tmp_path: Path) -> None:
    prompt.ask(Prompt.writing(str(tmp_path / "a"), "[x]\ny = 'z'\n\"q\""), SECONDS_MAX)
    assert (tmp_path / "a").read_text() == "[x]\ny = 'z'\n\"q\"\n"


def test_command_that_failed_is_told_with_its_last_words(prompt: Prompt) -> None:
    with pytest.raises(BoxFailed, match="ended with 3: out of paper"):
        prompt.ask("echo out of paper; (exit 3)", SECONDS_MAX)


def test_silence_is_told(prompt: Prompt) -> None:
    with pytest.raises(BoxFailed, match="no line with"):
        prompt.ask("sleep 30", 0.2)


@pytest.mark.parametrize(
    "line",
    [
        "[  1.2] python3[385]: Traceback (most recent call last):",
        '[  1.2] python3[385]: {"time":"...","level":"error","event":"task.failed"}',
        "[FAILED] Failed to start tillstone.service",
        "[  9.1] Kernel panic - not syncing: dm-verity device corrupted",
        "[  9.1] EXT4-fs error (device dm-1): ext4_lookup",
        "[  9.1] BUG: kernel NULL pointer dereference, address: 0000000000000000",
    ],
)
def test_line_that_somebody_must_look_at_is_noticed(line: str) -> None:
    assert SUSPICIOUS.search(line)


@pytest.mark.parametrize(
    "line",
    [
        '{"time":"...","level":"warning","event":"loop.blocked","lag_ms":594}',
        "systemd[1]: bpf-restrict-fs: Failed to load BPF object: Invalid argument",
        "EXT4-fs (dm-1): recovery complete",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 24s! [systemd:1]",
    ],
)
def test_line_of_a_start_that_went_well_is_not(line: str) -> None:
    assert not SUSPICIOUS.search(line)

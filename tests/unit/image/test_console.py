"""Owns the promises of a machine's console: lines without escapes, begun lines count, silence and the end are told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from image.console import Console, ConsoleSilent

SECONDS_MAX = 5.0


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Console, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        console = Console(tmp_path / "s", tmp_path / "log")
        machine, _ = listening.accept()
        with machine:
            yield console, machine
        console.close()


def test_lines_come_without_escape_sequences(ends: tuple[Console, socket.socket], tmp_path: Path) -> None:
    console, machine = ends
    machine.sendall(b"\x1b[0;1;38:5:185mDEPEND\x1b[0m done\r\n")
    console.wait_for("DEPEND", SECONDS_MAX)
    assert [line.text for line in console.lines] == ["DEPEND done"]
    assert (tmp_path / "log").read_text().endswith(" DEPEND done\n")


def test_a_prompt_is_found_before_its_line_ends(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    machine.sendall(b"one\nlogin: ")
    assert console.wait_for("login: $", SECONDS_MAX)[0] == "login: "


def test_only_later_lines_count_after_a_given_one(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    machine.sendall(b"done 1\n")
    console.wait_for("done", SECONDS_MAX)
    machine.sendall(b"done 2\n")
    assert console.wait_for(r"done (\d)", SECONDS_MAX, after=1)[1] == "2"


def test_a_machine_that_ended_is_not_waited_for(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    machine.sendall(b"panic\n")
    machine.close()
    with pytest.raises(ConsoleSilent, match=r"the machine ended(?s:.*)panic"):
        console.wait_for("login", SECONDS_MAX)


def test_what_is_typed_arrives(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    console.type("ls\n")
    assert machine.recv(16) == b"ls\n"

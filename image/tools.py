"""The tools that build the image: a tree of Debian 13 packages, entered as a root of its own.

So Debian 12 and 13 build alike, and nothing is installed on the machine but mmdebstrap. Owns that tree.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image.definition import RELEASE, items
from image.mirror import options, sources

# $1: the tree; then folders of the machine that keep their names inside, up to `--`; then the command.
_ENTER: Final = """
tree=$1; shift
mount --rbind "$tree" "$tree"
for part in dev proc sys; do mount --rbind "/$part" "$tree/$part"; done
mount -t tmpfs -o mode=755 tmpfs "$tree/run"
mount -t tmpfs -o mode=1777 tmpfs "$tree/tmp"
mkdir -p "$tree/run/lock" "$tree/run/outside"
while [ "$1" != -- ]; do mkdir -p "$tree$1"; mount --rbind "$1" "$tree$1"; shift; done
shift
: >"$tree/run/resolv.conf"; cat /etc/resolv.conf >"$tree/run/resolv.conf" 2>/dev/null
ln -sfn /run/resolv.conf "$tree/etc/resolv.conf"
cd "$tree"
pivot_root . run/outside
cd /
umount -l /run/outside
exec "$@"
"""


class ToolFailed(Exception):
    """A tool ended with an error; the message holds its last lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The tree, the machine's folders that are seen inside under their own names, and the time that files get.

    Attributes:
        time: SOURCE_DATE_EPOCH, seconds since 1970.
    """

    tree: Path
    shared: tuple[Path, ...]
    time: int

    def run(
        self, *command: str | Path, input: bytes = b"", cwd: Path | None = None, environment: Mapping[str, str] = {}
    ) -> bytes:
        """Run a program of the tree and return what it printed. Raises ToolFailed."""
        inside = [
            "env",
            "-i",
            *(["--chdir", str(cwd)] if cwd is not None else []),
            "HOME=/root",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
            "TZ=UTC",
        ]
        inside += [f"SOURCE_DATE_EPOCH={self.time}", *(f"{name}={value}" for name, value in environment.items())]
        enter = ["unshare", "--mount", "--propagation", "private", "bash", "-euc", _ENTER, "enter", str(self.tree)]
        enter += [*(str(folder) for folder in self.shared), "--", *inside, *(str(word) for word in command)]
        return run_program(enter, input=input, name=str(command[0]))


def make_tools(folder: Path) -> None:
    """Fill `folder` with the tree."""
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--include={','.join(items('tools.txt'))}"]
    command += [f"--aptopt={option}" for option in (*options(), 'APT::Install-Recommends "false"')]
    command += [RELEASE, str(folder / "tree"), *sources()]
    run_program(command)


def run_program(command: Sequence[str], *, input: bytes = b"", name: str = "") -> bytes:
    """What the program printed. Raises ToolFailed with the end of what it said."""
    done = subprocess.run(command, check=False, capture_output=True, input=input)
    if done.returncode != 0:
        said = (done.stdout[-2000:] + done.stderr[-6000:]).decode(errors="replace").strip()
        raise ToolFailed(f"{name or command[0]} ended with {done.returncode}:\n{said}")
    return done.stdout

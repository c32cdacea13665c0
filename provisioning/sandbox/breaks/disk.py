"""The disk fills up: the same box on a small disk of its own, which is then filled.

Owns that disk: a tmpfs in a private mount namespace, which nobody else sees. The log is copied there and, at the end,
back under its own name by a rename: at each moment one whole log lies in the sandbox.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from provisioning.commands.outcome import CannotDo
from provisioning.local_door import LocalDoor
from provisioning.sandbox.breaks.scene import Scene
from provisioning.sandbox.shop import ROOM_BYTES_MIN, data_seen_by

NOTICE_S_MAX: Final = 15.0
_LOOK_S: Final = 1.2  # the ledger asks the file system once a second
_SPARE_BYTES: Final = 96 * 2**20
_LEFT_BYTES: Final = ROOM_BYTES_MIN // 2
_BLOCK_BYTES: Final = 2**20
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_NOT_COPIED: Final = shutil.ignore_patterns("*.sock", "doors.json", "ballast")


def play(scene: Scene) -> None:
    """New sales are refused with the reason before the disk is full; freeing it heals."""
    data = scene.folder.data
    with _private_mounts() as holder:
        inside = data_seen_by(holder, scene.folder)
        scene.act("The box moves to a small disk that only it can see")
        scene.control.stop("appliance")
        try:
            size_bytes = 2 * _size_of(data) + ROOM_BYTES_MIN + _SPARE_BYTES
            _mount(holder, data, size_bytes)
            shutil.copytree(data, inside, dirs_exist_ok=True, ignore=_NOT_COPIED)
            scene.control.start("appliance", mounts_of=holder)
            scene.local = LocalDoor(inside)
            scene.promise(f"it sells, with {size_bytes >> 20} MB of disk", scene.sell().has_receipt)
            _fill_and_free(scene, inside)
        finally:
            scene.control.stop("appliance")
            _bring_back(inside, data)
            scene.control.start("appliance")
            scene.local = LocalDoor(data)
    scene.act("The box is back on its own disk, with every sale of the small one")
    scene.promise("it sells", scene.sell().has_receipt)
    scene.status()


def _fill_and_free(scene: Scene, inside: Path) -> None:
    ballast = inside / "ballast"
    scene.act(f"The disk fills up until {_LEFT_BYTES >> 20} MB are left")
    _fill(ballast)
    scene.wait("the shop notices", lambda: not scene.is_well(), seconds_max=NOTICE_S_MAX)
    time.sleep(_LOOK_S)
    sold = scene.sell()
    scene.promise("a new sale is refused because of the disk", sold.code in ("disk_low", "disk_full"))
    scene.status()
    scene.act("Somebody frees the disk")
    ballast.unlink()
    scene.wait("the shop says that all is well", scene.is_well, seconds_max=NOTICE_S_MAX)
    time.sleep(_LOOK_S)
    scene.promise("it sells again, without a restart", scene.sell().has_receipt)


@contextmanager
def _private_mounts() -> Iterator[int]:
    """The pid of a process that holds a mount namespace of its own."""
    allowed = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if allowed.returncode != 0:
        raise CannotDo(
            f"a disk of its own needs the right to mount: {allowed.stderr.decode().strip()}",
            "as root: tillstone sandbox break disk",
        )
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "SIGKILL", "unshare", "--mount", "--propagation", "private", "sleep", "infinity"]
    )
    try:
        _wait_until_apart(holder)
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


def _wait_until_apart(holder: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + NOTICE_S_MAX
    ours = os.readlink("/proc/self/ns/mnt")
    while os.readlink(f"/proc/{holder.pid}/ns/mnt") == ours:
        if holder.poll() is not None or time.monotonic() > ends_at:
            raise CannotDo("no private mount namespace came up", "as root: tillstone sandbox break disk")
        time.sleep(0.01)


def _mount(holder: int, data: Path, size_bytes: int) -> None:
    command = ["nsenter", f"--target={holder}", "--mount", "mount", "-t", "tmpfs"]
    command += ["-o", f"size={size_bytes},mode=0700", "tmpfs", str(data)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode != 0:
        raise CannotDo(f"the small disk could not be mounted: {made.stderr.decode().strip()}", "read mount(8), tmpfs")


def _fill(ballast: Path) -> None:
    block = bytes(_BLOCK_BYTES)
    with ballast.open("wb") as file:
        while True:
            status = os.statvfs(ballast.parent)
            if status.f_bavail * status.f_frsize <= _LEFT_BYTES:
                return
            file.write(block)
            file.flush()


def _bring_back(inside: Path, data: Path) -> None:
    """Replace `data` by what the small disk holds, whole or not at all."""
    if not (inside / "ledger.db").exists():
        return  # nothing was copied over yet: the log never left
    fresh = data.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(inside, fresh, ignore=_NOT_COPIED)
    fresh.chmod(0o700)
    os.sync()
    _exchange(fresh, data)
    shutil.rmtree(fresh)


def _exchange(one: Path, other: Path) -> None:
    """Swap two names at once (renameat2(2)): at no moment is the log's name missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), f"{one} and {other} cannot be exchanged")


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

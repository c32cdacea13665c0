"""Software TPMs for the sandbox and tests: make one with an EK certificate, start it, end it. Never used on a device.

Works as root and as any user: `swtpm_setup` gets its own configuration and certificate authority in the TPM's folder,
so that nothing under /etc, /var or the user's home is read or written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_TIMEOUT_S: Final = 10.0
END_TIMEOUT_S: Final = 2.0  # one that was told to end still writes its state
SETUP_TIMEOUT_S: Final = 120.0
SOCKET_FOLDER_BYTES_MAX: Final = 90  # sockaddr_un holds 108 with /socket.ctrl at the end
_PROGRAMS: Final = ("swtpm", "swtpm_setup", "swtpm_localca", "setpriv")


class SwtpmError(Exception):
    """A software TPM could not be made or started; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSwtpm:
    """A started software TPM: the process, and the TCTI string by which to reach it."""

    process: subprocess.Popen[bytes]
    tcti: str


def missing_programs() -> list[str]:
    """Which of the programs this module starts are not installed (Debian: swtpm, swtpm-tools, util-linux)."""
    return [name for name in _PROGRAMS if shutil.which(name) is None]


def make_swtpm(directory: Path) -> None:
    """Make a TPM with a P-384 endorsement key and its certificate in `directory`; one that is there is kept."""
    if missing := missing_programs():
        raise SwtpmError(f"not installed: {', '.join(missing)}; on Debian: apt-get install swtpm swtpm-tools")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = directory / "state"
    if state.exists():
        return
    authority, unfinished = directory / "authority", directory / "state.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # a set-up that was interrupted has keys without certificates
    for folder in (authority, unfinished):
        folder.mkdir(mode=0o700, exist_ok=True)
    configuration = _write_configuration(authority)
    command = ["swtpm_setup", "--tpm2", "--ecc", "--create-ek-cert", "--pcr-banks", "sha256"]
    command += ["--tpmstate", str(unfinished), "--config", str(configuration)]
    made = subprocess.run(command, capture_output=True, timeout=SETUP_TIMEOUT_S, check=False)
    if made.returncode != 0:
        raise SwtpmError(f"swtpm_setup failed: {(made.stdout + made.stderr)[-800:].decode(errors='replace')}")
    unfinished.rename(state)


def start_swtpm(directory: Path) -> RunningSwtpm:
    """Start the TPM of `directory` behind unix sockets and wait until it answers.

    It ends with the thread that started it (parent-death signal, so start it from the main thread) or by
    `process.terminate()`; killing it is a power cut. Starting it again is a power-on: resetCount grows.

    Raises:
        SwtpmError: it does not start, or it runs already: then its sockets are left as they are.
    """
    _wait_until_nobody_runs(directory / "state")
    address = _socket_folder(directory.resolve()) / "socket"
    control = Path(f"{address}.ctrl")  # the name that libtss2-tcti-swtpm derives
    for path in (address, control):
        path.unlink(missing_ok=True)
    command = ["setpriv", "--pdeathsig", "SIGTERM", "swtpm", "socket", "--tpm2"]
    command += ["--tpmstate", f"dir={directory / 'state'},mode=0600", "--flags", "not-need-init,startup-clear"]
    command += ["--server", f"type=unixio,path={address},mode=0600", "--ctrl", f"type=unixio,path={control},mode=0600"]
    with (directory / "swtpm.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_until_it_listens(process, address, directory / "swtpm.log")
    except SwtpmError:
        process.kill()
        process.wait()
        raise
    return RunningSwtpm(process=process, tcti=f"swtpm:path={address}")


@contextmanager
def powered_tpm(directory: Path, tcti: str | None) -> Iterator[str]:
    """Where a box's TPM answers: at `tcti`, or the software TPM of `directory`, switched on for as long as it takes."""
    if tcti is not None:
        yield tcti
        return
    running = start_swtpm(directory)
    try:
        yield running.tcti
    finally:
        running.process.terminate()
        running.process.wait()


def _wait_until_nobody_runs(state: Path) -> None:
    """A socket taken away from a running TPM never comes back, and its box can do nothing without it."""
    ends_at = time.monotonic() + END_TIMEOUT_S
    while _is_held(state / ".lock"):
        if time.monotonic() > ends_at:
            raise SwtpmError(f"a software TPM runs already on {state}: end its box first")
        time.sleep(0.02)


def _is_held(lock: Path) -> bool:
    """Whether a process has swtpm's lock on its state, a POSIX record lock, which ends with its holder."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(descriptor)
    return False


def _write_configuration(authority: Path) -> Path:
    """Configuration of `swtpm_setup` and `swtpm_localca` (swtpm_setup.conf(5), swtpm-localca.conf(5))."""
    settings = authority / "localca.conf"
    options = authority / "localca.options"
    setup = authority / "setup.conf"
    settings.write_text(
        f"statedir = {authority}\nsigningkey = {authority}/signing-key.pem\n"
        f"issuercert = {authority}/issuer-certificate.pem\ncertserial = {authority}/serial\n"
    )
    options.write_text("--platform-manufacturer Tillstone\n--platform-version 1.0\n--platform-model sandbox\n")
    setup.write_text(
        f"create_certs_tool = {shutil.which('swtpm_localca')}\ncreate_certs_tool_config = {settings}\n"
        f"create_certs_tool_options = {options}\nactive_pcr_banks = sha256\n"
    )
    return setup


def _socket_folder(directory: Path) -> Path:
    """`directory` itself, or for deep ones a short private folder that always is the same."""
    if len(os.fsencode(directory)) <= SOCKET_FOLDER_BYTES_MAX:
        return directory
    short = Path(tempfile.gettempdir()) / f"tillstone-tpm-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}"
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    # The temporary folder is everyone's: a folder that somebody else put there would give them our TPM.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SwtpmError(f"{short} belongs to someone else or is open to others; remove it")
    return short


def _wait_until_it_listens(process: subprocess.Popen[bytes], address: Path, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SwtpmError(f"swtpm ended at once: {log.read_text(errors='replace')[-400:]}")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(address))
            except OSError:
                time.sleep(0.005)
                continue
            return
    raise SwtpmError(f"swtpm did not listen within {START_TIMEOUT_S:.0f} s")

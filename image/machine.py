"""A virtual machine that runs an image: QEMU with Secure Boot firmware, a software TPM and a disk of its own.

Owns the machine's folder: `disk.qcow2` over the image, `firmware.fd` with the keys enrolled, `tpm/`, `console.log`.
Its rules:
- the image itself is never written;
- what the machine flushed is on the disk, so that killing QEMU is a power cut and nothing worse;
- the network is what the caller gives: forwarded ports that lead nowhere else, or a device of a network of his own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from image.console import Console
from image.keys import ImageKeys
from image.tools import Tools, run_program
from provisioning.swtpm import SwtpmError, make_swtpm

MEMORY_MB: Final = 1024
DISK_SIZE: Final = "4G"
_END_S_MAX: Final = 20.0
# Where Debian 12 and 13 keep the firmware.
_FIRMWARE: Final = Path("/usr/share/OVMF")
_PROGRAMS: Final = ("qemu-system-x86_64", "qemu-img", "swtpm", "swtpm_setup")


class MachineFailed(Exception):
    """A machine cannot be made or started here; the message says what to do."""


@dataclass(slots=True, kw_only=True)
class Machine:
    """A running machine."""

    folder: Path
    console: Console
    qemu: subprocess.Popen[bytes]
    tpm: subprocess.Popen[bytes]

    def cut_power(self) -> None:
        """End at once: nothing is flushed that the machine did not flush."""
        for process in (self.qemu, self.tpm):
            process.kill()
            process.wait()
        self.console.close()

    def wait(self) -> int:
        """Until the machine has ended by itself; returns QEMU's exit code."""
        code = self.qemu.wait()
        self.tpm.terminate()
        self.tpm.wait(_END_S_MAX)
        self.console.close()
        return code


def missing_programs() -> list[str]:
    """What has to be installed first (Debian: qemu-system-x86, qemu-utils, ovmf, swtpm, swtpm-tools)."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    return missing + ([] if (_FIRMWARE / "OVMF_CODE_4M.fd").exists() else ["ovmf"])


def prepare(folder: Path, *, image: Path, tools: Tools, keys: ImageKeys) -> bool:
    """Make the machine in `folder` for the image folder `image`; one that is there is kept while the image is the same.

    Returns whether it is new.
    Raises:
        MachineFailed: a program is missing.
    """
    if missing := missing_programs():
        raise MachineFailed(f"not installed: {', '.join(missing)}; make image-boot installs what it needs")
    root_hash: str = json.loads((image / "manifest.json").read_text())["root_hash"]
    disk_of = f"{root_hash} {(image / 'disk.raw').stat().st_ino}"
    marker = folder / "image"
    # The disk lies over the image's blocks: over another image they would be nonsense.
    if marker.exists() and marker.read_text() == disk_of:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    backing = ["-F", "raw", "-b", str((image / "disk.raw").resolve())]
    run_program(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(folder / "disk.qcow2"), DISK_SIZE])
    _enrol(folder / "firmware.fd", tools, keys)
    try:
        make_swtpm(folder / "tpm")
    except SwtpmError as cause:
        raise MachineFailed(str(cause)) from cause
    marker.write_text(disk_of)
    return True


def forwarded(ports: Mapping[int, int]) -> str:
    """A network that leads nowhere but from these ports of our loopback to TCP ports inside."""
    return "user,restrict=on" + "".join(f",hostfwd=tcp:127.0.0.1:{port}-:{inside}" for port, inside in ports.items())


def plugged(device: str) -> str:
    """The network behind a tap device that is there."""
    return f"tap,ifname={device},script=no,downscript=no"


def start(folder: Path, *, network: str, stick: Path | None = None, has_smm: bool = False) -> Machine:
    """Power on the machine of `folder`.

    Args:
        network: `forwarded` or `plugged`.
        stick: the content of an installer's stick that is plugged in, and written to.
        has_smm: firmware whose variables not even the guest's kernel can write; 8 s slower when emulated.
    """
    # Unix sockets have short names.
    sockets = Path(tempfile.mkdtemp(prefix="tillstone-machine-"))
    tpm = subprocess.Popen(
        ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder / 'tpm/state'},mode=0600", "--terminate",
         "--ctrl", f"type=unixio,path={sockets / 'tpm'}", "--flags", "startup-clear"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _wait_for(sockets / "tpm", tpm)
    command = [*_hardware(folder, has_smm=has_smm), *_devices(folder, sockets, network), *_stick(stick)]
    with (folder / "qemu.log").open("wb") as log:
        qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        console = Console(sockets / "console", folder / "console.log")
    except OSError as cause:
        for process in (qemu, tpm):
            process.kill()
            process.wait()
        raise MachineFailed(f"QEMU did not start: {(folder / 'qemu.log').read_text()[-800:]}") from cause
    return Machine(folder=folder, console=console, qemu=qemu, tpm=tpm)


def _hardware(folder: Path, *, has_smm: bool) -> list[str]:
    code = "OVMF_CODE_4M.secboot.fd" if has_smm else "OVMF_CODE_4M.fd"
    guarded = ["-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"]
    # KVM where it works; emulation otherwise, with a cache of translated code that holds a whole start.
    kvm, emulated = ["-accel", "kvm", "-cpu", "host"], ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"]
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", f"q35,smm={'on' if has_smm else 'off'},vmport=off,hpet=off",
        *(kvm if accelerator() == "KVM" else emulated), "-smp", "2", "-m", str(MEMORY_MB),
        *(guarded if has_smm else []),
        "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_FIRMWARE / code}",
        "-drive", f"if=pflash,format=raw,unit=1,file={folder / 'firmware.fd'}",
    ]  # fmt: skip


def _devices(folder: Path, sockets: Path, network: str) -> list[str]:
    return [
        "-chardev", f"socket,id=tpm,path={sockets / 'tpm'}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
        "-device", "tpm-crb,tpmdev=tpm0",
        "-drive", f"if=none,id=disk,format=qcow2,file={folder / 'disk.qcow2'},cache=writeback,discard=unmap",
        "-device", "virtio-blk-pci,drive=disk,bootindex=1",
        "-netdev", f"{network},id=lan", "-device", "virtio-net-pci,netdev=lan,romfile=",
        "-device", "virtio-rng-pci",
        "-chardev", f"socket,id=console,path={sockets / 'console'},server=on,wait=off", "-serial", "chardev:console",
    ]  # fmt: skip


def _stick(content: Path | None) -> list[str]:
    if content is None:
        return []
    return ["-drive", f"if=none,id=stick,format=raw,file={content}", "-device", "virtio-blk-pci,drive=stick"]


@cache
def accelerator() -> Literal["KVM", "emulation"]:
    """What runs our processor: inside another virtual machine the device of KVM alone promises nothing."""
    try:
        with open("/dev/kvm", "rb+", buffering=0):
            probe = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-machine", "q35", "-nodefaults"]
            probe += ["-display", "none", "-S"]
            asked = subprocess.run(
                [*probe, "-monitor", "stdio"], input=b"quit\n", capture_output=True, timeout=10, check=False
            )
            return "KVM" if asked.returncode == 0 else "emulation"
    except (OSError, subprocess.TimeoutExpired):
        return "emulation"


def _enrol(firmware: Path, tools: Tools, keys: ImageKeys) -> None:
    shutil.copyfile(_FIRMWARE / "OVMF_VARS_4M.fd", firmware)
    command = ["virt-fw-vars", "--inplace", str(firmware), "--secure-boot"]
    command += ["--set-pk", keys.owner, str(keys.certificate("PK"))]
    command += ["--add-kek", keys.owner, str(keys.certificate("KEK"))]
    command += ["--add-db", keys.owner, str(keys.certificate("db"))]
    tools.run(*command)


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + _END_S_MAX
    while not path.exists():
        if process.poll() is not None or time.monotonic() > ends_at:
            process.kill()
            process.wait()
            raise MachineFailed("the software TPM did not start")
        time.sleep(0.02)

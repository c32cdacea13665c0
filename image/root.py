"""The image's root: base, wheels, our code and `definition/root` laid over each other, then trimmed.

Owns what is in the root and its modes. Its rules:
- every file carries the lock's time and belongs to root, so that two builds are the same bytes;
- no file is setuid, setgid or has file capabilities, in any profile;
- the release profile keeps the programs of programs.txt and no others.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

from image.definition import DEFINITION, IMAGE_NAME, MODEL, Profile, items, modules, version
from image.ours import PLACE, add_ours
from image.tools import Tools

_PROGRAM_FOLDERS: Final = ("usr/bin", "usr/sbin")


def make_root(tools: Tools, folder: Path, *, base: Path, site: Path, profile: Profile) -> None:
    """Fill `folder/tree`."""
    root = folder / "tree"
    subprocess.run(["cp", "-a", "--reflink=auto", str(base / "tree"), str(root)], check=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(site / "site"), str(root / PLACE)], check=True)
    add_ours(root, profile)
    for overlay in ("root", *(("developer",) if profile == "developer" else ())):
        lay_over(DEFINITION / overlay, root)
    _name(root, profile)
    _copy_modules(tools, base / "kernel", root)
    _settle_units(tools, root, profile)
    _trim(root, profile)
    _finish_etc(root)
    _compile(tools, root)
    tools.run("ldconfig", "-r", root)
    shutil.rmtree(root / "var/cache/ldconfig", ignore_errors=True)
    _try_imports(tools, root)
    _set_modes_and_times(root, tools.time)


def lay_over(overlay: Path, root: Path) -> None:
    """Copy the overlay's files into the tree. Git keeps no owners and few modes: files are root's and 0644."""
    for source in sorted(overlay.rglob("*")):
        target = root / source.relative_to(overlay)
        if source.is_dir():
            target.mkdir(mode=0o755, parents=True, exist_ok=True)
        else:
            shutil.copyfile(source, target)
            target.chmod(0o644)


def _name(root: Path, profile: Profile) -> None:
    os_release = root / "usr/lib/os-release"
    variant = "" if profile == "release" else "VARIANT_ID=developer\n"
    os_release.write_text(
        f"{os_release.read_text()}IMAGE_ID={IMAGE_NAME}\nIMAGE_VERSION={version()}\nTILLSTONE_MODEL={MODEL}\n{variant}"
    )
    (root / "etc/hostname").write_text(f"{IMAGE_NAME}\n")
    # The clock of a box with an empty battery starts no earlier than the image was locked.
    (root / "usr/lib/clock-epoch").touch()


def _copy_modules(tools: Tools, kernel: Path, root: Path) -> None:
    copy_modules(tools, kernel, root, modules(in_initrd=False))


def copy_modules(tools: Tools, kernel: Path, root: Path, names: tuple[str, ...]) -> None:
    """Put the modules and what they depend on into `root`, with an index of their own."""
    release = kernel_release(kernel)
    tools.run("depmod", "-b", kernel, release)
    place = Path("usr/lib/modules") / release
    for name in names:
        shown = tools.run("modprobe", "-d", kernel, "-S", release, "--show-depends", name).decode().splitlines()
        for file in (line.split()[1] for line in shown if line.startswith("insmod ")):
            inside = place / file.partition(f"{release}/")[2]
            (root / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, root / inside)
    for index in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(kernel / place / index, root / place / index)
    tools.run("depmod", "-b", root, release)


def kernel_release(kernel: Path) -> str:
    """What `uname -r` will say."""
    (found,) = (kernel / "usr/lib/modules").iterdir()
    return found.name


def _settle_units(tools: Tools, root: Path, profile: Profile) -> None:
    units = root / "etc/systemd/system"
    # Links that packages made at their installation are nobody's choice here: presets decide.
    for link in units.rglob("*"):
        if link.is_symlink():
            link.unlink()
    tools.run("systemd-sysusers", f"--root={root}")
    tools.run("systemctl", f"--root={root}", "preset-all")
    _link(units / "default.target", "/usr/lib/systemd/system/multi-user.target")
    for unit in items("masked.txt"):
        _link(units / unit, "/dev/null")
    generators = {*items("generators.txt"), *(("systemd-getty-generator",) if profile == "developer" else ())}
    for generator in (root / "usr/lib/systemd/system-generators").iterdir():
        if generator.name not in generators:
            generator.unlink()


def _trim(root: Path, profile: Profile) -> None:
    patterns = items("removed.txt") + (items("removed-release.txt") if profile == "release" else ())
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            _remove(path)
    for cache in sorted(root.rglob("__pycache__")):
        _remove(cache)
    if profile == "release":
        kept = set(items("programs.txt"))
        for folder in _PROGRAM_FOLDERS:
            for program in (root / folder).iterdir():
                if program.name not in kept:
                    program.unlink()


def _finish_etc(root: Path) -> None:
    # Empty, not "uninitialized": the second one makes systemd write presets at each boot.
    (root / "etc/machine-id").touch()
    _link(root / "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
    for place in ("efi", "boot"):
        (root / place).mkdir(exist_ok=True)


def _compile(tools: Tools, root: Path) -> None:
    """Bytecode that is believed without a look at its source: the root cannot change."""
    command = ["python3", "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash"]
    places = [root / "usr/lib/python3.13", root / "usr/lib/python3", root / PLACE]
    tools.run(*command, "-s", root, "-p", "/", *places)


def _try_imports(tools: Tools, root: Path) -> None:
    """In the root itself, where a library that no package brought is missed now and not on a box."""
    programs = "appliance.__main__, appliance.installer.__main__"
    tools.run("chroot", root, "/usr/bin/python3", "-I", "-c", f"import {programs}, pkcs11, segno, sqlite3")


def _set_modes_and_times(root: Path, time: int) -> None:
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            for attribute in os.listxattr(path):
                os.removexattr(path, attribute)
            mode = path.stat().st_mode
            if mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))
        os.utime(path, (time, time), follow_symlinks=False)


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(path)
    path.symlink_to(target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

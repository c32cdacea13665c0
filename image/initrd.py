"""The initrd: what finds, checks and mounts the root, and makes the state partition at first boot. Owns its files."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Final

from image.definition import DEFINITION, items, modules
from image.root import copy_modules, lay_over
from image.tools import Tools

_LIBRARIES: Final = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/systemd", "usr/lib/systemd")
_MERGED: Final = ("bin", "sbin", "lib", "lib64")
_EMPTY: Final = (
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "sysroot",
    "etc",
    "var/tmp",
    "root",
    "usr/bin",
    "usr/sbin",
    "usr/lib64",
)


def make_initrd(tools: Tools, folder: Path, *, base: Path) -> None:
    """`folder/initrd.zst` from the Debian root and its kernel."""
    tree = folder / "tree"
    for empty in _EMPTY:
        (tree / empty).mkdir(parents=True)
    for name in _MERGED:
        (tree / name).symlink_to(f"usr/{name}")
    _copy_files(tools, base / "tree", tree)
    copy_modules(tools, base / "kernel", tree, modules(in_initrd=True))
    lay_over(DEFINITION / "initrd", tree)
    _write_etc(base / "tree", tree)
    _link_units(tree)
    tools.run("ldconfig", "-r", tree)
    shutil.rmtree(tree / "var/cache", ignore_errors=True)
    _pack(tools, tree, folder / "initrd.zst")


def _copy_files(tools: Tools, root: Path, tree: Path) -> None:
    """The listed files, then what they need, until nothing new is needed."""
    seen: set[Path] = set()
    fresh: list[Path] = []
    for pattern in items("initrd.txt"):
        found = sorted(root.glob(pattern))
        if not found:
            raise FileNotFoundError(f"initrd.txt: no file of the packages is {pattern}")
        fresh += [path.relative_to(root) for path in found]
    while fresh:
        programs: list[Path] = []
        for path in fresh:
            programs += _copy(root, tree, path, seen)
        fresh = _needed(tools, root, programs)


def _copy(root: Path, tree: Path, path: Path, seen: set[Path]) -> list[Path]:
    """Copy one file, link or folder; returns the ELF files among what was copied."""
    if path in seen:
        return []
    seen.add(path)
    source, target = root / path, tree / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        to = os.readlink(source)
        target.symlink_to(to)
        if to == "/dev/null":
            return []
        aim = os.path.normpath(to.lstrip("/") if to.startswith("/") else path.parent / to)
        return _copy(root, tree, _merged(Path(aim)), seen)
    if source.is_dir():
        target.mkdir(exist_ok=True)
        return [elf for entry in sorted(source.iterdir()) for elf in _copy(root, tree, path / entry.name, seen)]
    shutil.copy2(source, target)
    return [path] if source.read_bytes()[:4] == b"\x7fELF" else []


def _needed(tools: Tools, root: Path, programs: list[Path]) -> list[Path]:
    if not programs:
        return []
    shown = tools.run("readelf", "--dynamic", *(root / program for program in programs)).decode()
    names = sorted(set(re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", shown)))
    found = {
        name: next((Path(place) / name for place in _LIBRARIES if (root / place / name).exists()), None)
        for name in names
    }
    loader = Path("usr/lib64/ld-linux-x86-64.so.2")
    if missing := [name for name, path in found.items() if path is None and name != loader.name]:
        raise FileNotFoundError(f"libraries of the initrd that no package has: {', '.join(missing)}")
    return [path or loader for path in found.values()]


def _merged(path: Path) -> Path:
    return Path("usr") / path if path.parts[0] in _MERGED else path


def _write_etc(root: Path, tree: Path) -> None:
    os_release = (root / "usr/lib/os-release").read_text()
    (tree / "usr/lib/os-release").write_text(os_release)
    (tree / "etc/initrd-release").write_text(os_release)
    (tree / "etc/machine-id").touch()
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/usr/sbin/nologin\n")
    (tree / "etc/shadow").write_text("root:!*:1::::::\n")
    (tree / "etc/shadow").chmod(0o600)


def _link_units(tree: Path) -> None:
    vendor, local = tree / "usr/lib/systemd/system", tree / "etc/systemd/system"
    (tree / "init").symlink_to("usr/lib/systemd/systemd")
    for item in items("initrd-wants.txt"):
        target, unit = item.split()
        link = vendor / f"{target}.wants" / unit
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(f"../{unit}")
    local.mkdir(parents=True)
    (local / "default.target").symlink_to("/usr/lib/systemd/system/initrd.target")
    for unit in items("initrd-masked.txt"):
        (local / unit).symlink_to("/dev/null")
    no_prompt = "emergency.service.d/10-no-prompt.conf"
    _drop_in(local / no_prompt, (DEFINITION / "root/etc/systemd/system" / no_prompt).read_text())


def _drop_in(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


def _pack(tools: Tools, tree: Path, packed: Path) -> None:
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (tools.time, tools.time), follow_symlinks=False)
    listed = "\n".join(names).encode() + b"\n"
    archive = packed.with_suffix(".cpio")
    command = ["cpio", "--create", "--format=newc", "--reproducible", "--quiet", "--owner=0:0", f"--file={archive}"]
    tools.run(*command, input=listed, cwd=tree)
    # One thread: the number of threads would be in the result.
    tools.run("zstd", "--quiet", "--force", "-15", "--threads=1", archive, "-o", packed)
    archive.unlink()

"""The Debian part of the image: packages at their locked versions, and the kernel beside them. Owns the lock."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from image.definition import DEFINITION, RELEASE, items, kernel_package, locked_packages, versions
from image.mirror import options, sources
from image.tools import ToolFailed, Tools

# Documents stay outside, licences stay in.
_LEFT_OUT: Final = tuple(f"path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info", "i18n"))
_KEPT: Final = ("path-include=/usr/share/doc/*/copyright",)
_LOCK: Final = DEFINITION / "packages.lock"
PACKAGES: Final = "packages.txt"
"""What the signed lists of the mirror say of each package of the root, its hash among it."""


def make_base(tools: Tools, folder: Path) -> None:
    """`folder/tree`, a root of the locked packages; `folder/kernel`, the kernel's files; both unconfigured for boot.

    Raises:
        ToolFailed: the mirror no longer has a locked version, among other reasons.
    """
    pins = folder / "pins"
    # Priority above 1000 also goes back to an older version; -1 keeps out what the lock does not name.
    lines = [
        f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n" for name, version in locked_packages().items()
    ]
    pins.write_text("\n".join([*lines, "Package: *\nPin: release *\nPin-Priority: -1\n"]))
    _bootstrap(tools, folder, kernel=kernel_package(), setup=f'cp {pins} "$1"/etc/apt/preferences.d/locked')
    found, wanted = _packages(tools, folder), locked_packages()
    if found != wanted:
        wrong = sorted({*found.items()} ^ {*wanted.items()})[:6]
        raise ToolFailed(
            f"the mirror's packages are not the locked ones (make image-lock takes what it has now): {wrong}"
        )


def make_lock(tools: Tools, folder: Path) -> None:
    """Write packages.lock from what the mirror has now."""
    meta = next(name for name in items("packages.txt") if name.startswith("linux-image"))
    _bootstrap(tools, folder, kernel=f"$(apt-cache depends {meta} | sed -n 's/^ *Depends: //p')", setup="true")
    lines = [f"{name} {version}" for name, version in sorted(_packages(tools, folder).items())]
    head = ["# Every Debian package of the image. Written by `make image-lock`; all files carry this time.",
            f"# locked at {int(time.time())}"]  # fmt: skip
    _LOCK.write_text("\n".join([*head, *lines]) + "\n")


def _bootstrap(tools: Tools, folder: Path, *, kernel: str, setup: str) -> None:
    wanted = [name for name in items("packages.txt") if not name.startswith("linux-image")]
    debs = folder / "debs"
    debs.mkdir()
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=essential", f"--include={','.join(wanted)}"]
    command += [
        f"--aptopt={option}" for option in (*options(), 'APT::Install-Recommends "false"', 'APT::Sandbox::User "root"')
    ]
    command += [f"--dpkgopt={option}" for option in (*_LEFT_OUT, *_KEPT)]
    command += [f"--setup-hook={setup}"]
    # Unpacked beside the root, not installed: its scripts would want an initrd made.
    command += [
        f'--customize-hook=cd {debs} && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && apt-get -q download {kernel}'
    ]
    show = """apt-cache show $(dpkg-query --admindir="$1"/var/lib/dpkg -W -f '${Package}=${Version} ')"""
    command += [f'--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" {show} >{folder / PACKAGES}']
    command += ['--customize-hook=rm -f "$1"/etc/apt/preferences.d/locked', RELEASE, str(folder / "tree"), *sources()]
    tools.run(*command)
    (deb,) = debs.glob("linux-image-*.deb")
    tools.run("dpkg-deb", "-x", deb, folder / "kernel")
    # Where kmod's programs look.
    (folder / "kernel/lib").symlink_to("usr/lib")


def _packages(tools: Tools, folder: Path) -> dict[str, str]:
    listed = tools.run(
        "dpkg-query", f"--admindir={folder / 'tree/var/lib/dpkg'}", "--show", "--showformat=${Package} ${Version}\n"
    )
    (deb,) = (folder / "debs").glob("*.deb")
    kernel = tools.run("dpkg-deb", "--show", "--showformat=${Package} ${Version}\n", deb)
    return versions((listed + kernel).decode().splitlines())

"""`manifest.json`: what an image is, for whoever checks one. Owns its shape."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from image.definition import (
    IMAGE_NAME,
    MODEL,
    Profile,
    kernel_options,
    kernel_package,
    lock_time,
    locked_packages,
    version,
)
from image.disk import Disk
from image.materials import file_sha256

_PROGRAM_FOLDERS = ("usr/bin", "usr/sbin")


def write_manifest(folder: Path, *, disk: Disk, sbom: Path, root: Path, initrd: Path, profile: Profile) -> None:
    """Write it beside the disk; the same image gives the same bytes, signatures apart."""
    kernel = kernel_package()
    content: dict[str, Any] = {
        "format": "tillstone-image/1",
        "name": IMAGE_NAME,
        "model": MODEL,
        "version": version(),
        "profile": profile,
        "locked_at": lock_time(),
        "kernel": {"package": kernel, "version": locked_packages()[kernel]},
        "kernel_options": list(kernel_options(profile)),
        "root_hash": disk.root_hash,
        # By PCR and phase of the start; the fourth is settled before the first phase.
        "pcrs": {"sha256": {"4": dict.fromkeys(disk.pcr11, disk.pcr4), "11": disk.pcr11}},
        "sizes": {
            "disk_bytes": disk.raw.stat().st_size,
            "disk_stored_bytes": disk.raw.stat().st_blocks * 512,
            "uki_bytes": disk.uki.stat().st_size,
            "initrd_bytes": initrd.stat().st_size,
        },
        "sha256": {"sbom.cdx.json": file_sha256(sbom), "initrd": file_sha256(initrd)},
        "programs": programs(root),
        "privileged_files": privileged_files(root),
    }
    (folder / "manifest.json").write_text(json.dumps(content, indent=2) + "\n")


def programs(root: Path) -> list[str]:
    """What can be started by name."""
    return sorted(path.name for folder in _PROGRAM_FOLDERS for path in (root / folder).iterdir())


def privileged_files(root: Path) -> list[str]:
    """Files that give their user another's rights: setuid, setgid, capabilities."""
    found = []
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID) or "security.capability" in os.listxattr(path):
            found.append(str(path.relative_to(root)))
    return sorted(found)

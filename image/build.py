"""`make image`: the parts in their order, each made only when what it depends on has changed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from image.base import make_base, make_lock
from image.definition import DEFINITION, PROJECT, RELEASE, Profile, lock_time, version
from image.disk import make_disk
from image.initrd import make_initrd
from image.keys import ImageKeys, ensure_keys, read_release_public
from image.manifest import write_manifest
from image.materials import builder_packages, materials, source_commit
from image.provenance import NAME, SUBJECTS, verify_provenance, write_provenance
from image.root import make_root
from image.sbom import write_sbom
from image.site import install_wheels
from image.sizes import tell_sizes
from image.tools import Tools, make_tools
from image.update import write_update
from image.wheels import download_wheels
from image.workshop import Workshop, remove_tree, say

_MODULES: Final = PROJECT / "image"
_ROOT_LISTS: Final = ("generators", "masked", "modules", "programs", "removed", "removed-release")
_FIRST_PARTS: Final = 2
_LATER_PARTS: Final = 5
# What of a manifest must be the same when the same image is built again: how many blocks a disk takes may differ.
_MAY_DIFFER: Final = "disk_stored_bytes"


class NotTheSame(Exception):
    """Two builds of one image differ; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """Folders of finished parts."""

    base: Path
    initrd: Path
    root: Path
    image: Path


def build(*, out: Path, keys_folder: Path, profile: Profile) -> Path:
    """Make the image of `profile` and return the folder with its files."""
    began = time.monotonic()
    workshop = Workshop(folder=out / "work", parts=_FIRST_PARTS + _LATER_PARTS + 1)
    say(f"Tillstone image {version()}, {profile} profile; everything lies under {_shown(out)}")
    tools, wheels = _first_parts(workshop, keys_folder)
    keys = ensure_keys(keys_folder)
    made = _later_parts(workshop, tools, wheels, keys, profile)
    provenance = _provenance(workshop, tools, wheels, keys, made, profile)
    files = [*(made.image / name for name in SUBJECTS), provenance / NAME]
    place = _publish(files, out if profile == "release" else out / profile)
    verify_provenance(place, read_release_public(keys.release_public.read_bytes()))
    tell_sizes(place, base=made.base, root=made.root / "tree", initrd=made.initrd / "tree")
    took = f"done after {time.monotonic() - began:.0f} s"
    say(f"{took}: {_shown(place)}/disk.raw, update, manifest.json, sbom.cdx.json, {NAME}")
    return place


def build_again(*, out: Path, keys_folder: Path) -> None:
    """Make the release image a second time, all but tools and downloads anew, and compare. Raises NotTheSame."""
    first = Workshop(folder=out / "work", parts=_FIRST_PARTS)
    tools, wheels = _first_parts(first, keys_folder)
    second = Workshop(folder=out / "again", parts=_FIRST_PARTS + _LATER_PARTS, fingerprints=dict(first.fingerprints))
    remove_tree(second.folder)
    made = _later_parts(second, tools, wheels, ensure_keys(keys_folder), "release")
    ours, theirs = _manifest(out), _manifest(made.image)
    different = sorted(name for name in ours if ours[name] != theirs[name])
    if different:
        raise NotTheSame(f"two builds of the same image differ in {', '.join(different)}; see {_shown(second.folder)}")
    say(f"built twice, the same: root hash {ours['root_hash']}, initrd, SBOM and PCR 11 values")
    remove_tree(second.folder)


def lock(*, out: Path, keys_folder: Path) -> None:
    """Renew packages.lock from the machine's mirror."""
    workshop = Workshop(folder=out / "work", parts=2)
    tools = _tools(workshop, keys_folder)
    workshop.part("lock", "Debian packages of today", [str(time.time())], lambda folder: make_lock(tools, folder))
    remove_tree(workshop.folder / "lock")


def open_tools(out: Path, keys_folder: Path) -> Tools:
    """The tools of the last build, made when they are not there."""
    return _tools(Workshop(folder=out / "work", parts=1), keys_folder)


def _first_parts(workshop: Workshop, keys_folder: Path) -> tuple[Tools, Path]:
    tools = _tools(workshop, keys_folder)
    wheels = workshop.part(
        "wheels", "Python packages, hashes checked",
        [_MODULES / "wheels.py", DEFINITION / "wheels.txt", PROJECT / "requirements"], download_wheels,
    )  # fmt: skip
    return tools, wheels


def _tools(workshop: Workshop, keys_folder: Path) -> Tools:
    keys_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    title = f"tools: a tree of {RELEASE} packages (two minutes)"
    folder = workshop.part("tools", title, [RELEASE, DEFINITION / "tools.txt"], make_tools)
    return Tools(tree=folder / "tree", shared=(PROJECT, workshop.folder.parent, keys_folder), time=lock_time())


def _later_parts(workshop: Workshop, tools: Tools, wheels: Path, keys: ImageKeys, profile: Profile) -> _Made:
    site = workshop.part(
        "site", "Python packages unpacked, one compiled (a minute)",
        [_of(workshop, "tools", "wheels"), _MODULES / "site.py", DEFINITION / "wheel-parts-left-out.txt"],
        lambda folder: install_wheels(tools, wheels, folder),
    )  # fmt: skip
    base = workshop.part(
        "base", f"Debian packages ({RELEASE}), as locked (two minutes)",
        [_of(workshop, "tools"), _MODULES / "base.py", DEFINITION / "packages.txt", DEFINITION / "packages.lock"],
        lambda folder: make_base(tools, folder),
    )  # fmt: skip
    initrd = workshop.part(
        "initrd", "initrd",
        [_of(workshop, "base"), version(), _MODULES / "initrd.py", DEFINITION / "modules.txt",
         *sorted(DEFINITION.glob("initrd*")), DEFINITION / "root/etc/systemd/system"],
        lambda folder: make_initrd(tools, folder, base=base),
    )  # fmt: skip
    ours = [PROJECT / name for name in ("appliance", "drivers", "provisioning")]
    root = workshop.part(
        f"root-{profile}", "root: everything laid over each other, then trimmed",
        [_of(workshop, "base", "site"), version(), *ours, DEFINITION / "root", DEFINITION / "developer",
         *(DEFINITION / f"{name}.txt" for name in _ROOT_LISTS), _MODULES / "root.py", _MODULES / "ours.py"],
        lambda folder: make_root(tools, folder, base=base, site=site, profile=profile),
    )  # fmt: skip

    def finish(folder: Path) -> None:
        tree, packed = root / "tree", initrd / "initrd.zst"
        disk = make_disk(tools, folder, root=tree, base=base, initrd=packed, keys=keys, profile=profile)
        sbom = write_sbom(folder, base=base, wheels=wheels, root=tree, root_hash=disk.root_hash)
        write_manifest(folder, disk=disk, sbom=sbom, root=tree, initrd=packed, profile=profile)
        write_update(folder, disk=disk)

    options = (DEFINITION / "kernel-options.txt", DEFINITION / "developer-options.txt")
    signed = [
        *options,
        DEFINITION / "repart",
        *sorted(keys.folder.glob("*")),
        *(_MODULES / f"{name}.py" for name in ("disk", "measured", "sbom", "manifest", "update")),
    ]
    image = workshop.part(
        f"image-{profile}", "disk: root under dm-verity, signed kernel image, boot partition",
        [_of(workshop, "initrd", f"root-{profile}"), *signed], finish,
    )  # fmt: skip
    return _Made(base=base, initrd=initrd, root=root, image=image)


def _provenance(workshop: Workshop, tools: Tools, wheels: Path, keys: ImageKeys, made: _Made, profile: Profile) -> Path:
    commit = source_commit()

    def write(folder: Path) -> None:
        inputs = materials(base=made.base, wheels=wheels, keys=keys, commit=commit)
        programs = builder_packages(tools)
        write_provenance(
            folder, image=made.image, profile=profile, made_from=inputs, made_with=programs, keys=keys.release_keys()
        )

    return workshop.part(
        f"provenance-{profile}", "provenance, signed",
        [_of(workshop, f"image-{profile}"), commit,
         *(_MODULES / f"{name}.py" for name in ("dsse", "materials", "provenance"))],
        write,
    )  # fmt: skip


def _of(workshop: Workshop, *parts: str) -> str:
    return " ".join(workshop.fingerprints[part] for part in parts)


def _publish(files: Iterable[Path], place: Path) -> Path:
    """Show the finished files under their fixed names; hard links, so that nothing is stored twice."""
    place.mkdir(parents=True, exist_ok=True)
    for file in files:
        (place / file.name).unlink(missing_ok=True)
        (place / file.name).hardlink_to(file)
    return place


def _manifest(place: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((place / "manifest.json").read_text())
    del content["sizes"][_MAY_DIFFER]
    return content


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)

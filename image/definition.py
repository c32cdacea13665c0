"""What the image is made of, read from `definition/`. Owns the shape of those lists; builds nothing.

A list holds one item a line; what follows `#` is the reason and for people.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

PROJECT: Final = Path(__file__).resolve().parents[1]
DEFINITION: Final = PROJECT / "image" / "definition"
RELEASE: Final = "trixie"  # Debian 13
IMAGE_NAME: Final = "tillstone"
# What the image runs on; another board is another model, and its images are refused here.
MODEL: Final = "tillstone-virtual-x86-64"

Profile = Literal["release", "developer"]


class DefinitionInvalid(Exception):
    """A list of the definition cannot be built from; the message says what to change."""


def items(name: str) -> tuple[str, ...]:
    """The items of a list, without reasons."""
    lines = (line.split("#", 1)[0].strip() for line in (DEFINITION / name).read_text().splitlines())
    return tuple(line for line in lines if line)


def version() -> str:
    """The image's version is the project's."""
    project: str = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    return project


def locked_packages() -> dict[str, str]:
    """Name and version of every Debian package in the image."""
    return versions(items("packages.lock"))


def versions(lines: Iterable[str]) -> dict[str, str]:
    """Names and versions from lines like `base-files 13.8`."""
    return {name: version for name, _, version in (line.partition(" ") for line in lines)}


def kernel_package() -> str:
    """The one locked package that holds a kernel."""
    kernels = [name for name in locked_packages() if re.match(r"linux-image-\d", name)]
    if len(kernels) != 1:
        raise DefinitionInvalid(f"packages.lock names {len(kernels)} kernels, one is needed: make image-lock")
    return kernels[0]


def locked_wheels() -> tuple[str, ...]:
    """The part of requirements/run.txt that wheels.txt asks for, with hashes."""
    requirements = re.split(r"\n(?=\S)", (PROJECT / "requirements" / "run.txt").read_text().strip())
    by_name = {requirement.split("==", 1)[0]: requirement for requirement in requirements}
    wanted = items("wheels.txt")
    if missing := sorted(set(wanted) - set(by_name)):
        raise DefinitionInvalid(f"wheels.txt names what requirements/run.txt does not lock: {', '.join(missing)}")
    return tuple(by_name[name] for name in wanted)


def kernel_options(profile: Profile) -> tuple[str, ...]:
    """The command line without `roothash=`."""
    return items("kernel-options.txt") + (items("developer-options.txt") if profile == "developer" else ())


def modules(*, in_initrd: bool) -> tuple[str, ...]:
    """Names of kernel modules; the root has those of the initrd too."""
    pairs = [item.split(" ", 1) for item in items("modules.txt")]
    return tuple(name.strip() for place, name in pairs if place == "initrd" or not in_initrd)


def lock_time() -> int:
    """Seconds since 1970 that every file of the image carries: when the packages were locked."""
    found = re.search(r"^# locked at (\d+)$", (DEFINITION / "packages.lock").read_text(), re.MULTILINE)
    if found is None:
        raise DefinitionInvalid("packages.lock does not say when it was made: make image-lock")
    return int(found[1])

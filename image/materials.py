"""What an image was made from: source, lock files, Debian packages, wheels, public halves of the keys inside.

Owns the list of in-toto resource descriptors that provenance names; their digests are of the files that the build used.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from image.base import PACKAGES
from image.definition import DEFINITION, IMAGE_NAME, PROJECT, kernel_package, locked_packages, version, versions
from image.keys import ImageKeys
from image.sbom import package_url
from image.tools import ToolFailed, Tools, run_program

LOCKS: Final = (
    DEFINITION / "packages.lock",
    PROJECT / "requirements/run.txt",
    PROJECT / "requirements/build.txt",
)
CHANGED: Final = "+changes"
_SOURCES: Final = ("appliance", "drivers", "image", "provisioning", "requirements", "pyproject.toml")


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An in-toto ResourceDescriptor (spec/v1/resource_descriptor.md); digests are hexadecimal, by algorithm."""

    name: str = ""
    uri: str = ""
    digest: dict[str, str] = {}
    annotations: dict[str, bool] = {}

    @classmethod
    def of_file(cls, path: Path, name: str) -> Resource:
        return cls(name=name, digest={"sha256": file_sha256(path)})


def materials(*, base: Path, wheels: Path, keys: ImageKeys, commit: str) -> list[Resource]:
    """In a fixed order; `commit` as `source_commit` tells it."""
    return [
        _source(commit),
        *(Resource.of_file(path, str(path.relative_to(PROJECT))) for path in LOCKS),
        *_debian(base),
        *(Resource.of_file(path, path.name) for path in sorted(wheels.iterdir()) if path.suffix != ".txt"),
        *(Resource.of_file(path, path.name) for path in (keys.certificate("db"), keys.policy_public)),
    ]


def builder_packages(tools: Tools) -> list[Resource]:
    """The Debian packages of the tree of tools."""
    listed = tools.run("dpkg-query", "--show", "--showformat=${Package} ${Version}\n").decode()
    return [Resource(uri=package_url(*package)) for package in sorted(versions(listed.splitlines()).items())]


def source_commit() -> str:
    """The commit that is checked out, with `CHANGED` behind it where files differ from it; empty outside of git."""
    # Whoever owns the checkout: a build enters a user namespace, where everything belongs to its root.
    git = ["git", "-c", "safe.directory=*", "-C", str(PROJECT)]
    try:
        commit = run_program([*git, "rev-parse", "HEAD"]).decode().strip()
        differs = run_program([*git, "status", "--porcelain", "--", *_SOURCES])
    except (FileNotFoundError, ToolFailed):
        return ""
    return commit + (CHANGED if differs else "")


def package_hashes(shown: str) -> dict[str, str]:
    """SHA-256 of each package's archive by its name, from what `apt-cache show` says of one version of each."""
    stanzas = [dict(re.findall(r"^(Package|SHA256): (\S+)$", part, re.MULTILINE)) for part in shown.split("\n\n")]
    return {stanza["Package"]: stanza["SHA256"] for stanza in stanzas if stanza}


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source(commit: str) -> Resource:
    return Resource(
        name="source",
        uri=f"pkg:generic/{IMAGE_NAME}@{version()}",
        digest={"gitCommit": commit.removesuffix(CHANGED)} if commit else {},
        # Files that no commit holds are told, instead of naming a commit that does not make this image.
        annotations={"is_committed": bool(commit) and not commit.endswith(CHANGED)},
    )


def _debian(base: Path) -> Iterator[Resource]:
    sha256 = package_hashes((base / PACKAGES).read_text())
    (kernel,) = (base / "debs").glob("linux-image-*.deb")
    sha256[kernel_package()] = file_sha256(kernel)
    for name, its_version in sorted(locked_packages().items()):
        yield Resource(uri=package_url(name, its_version), digest={"sha256": sha256[name]})

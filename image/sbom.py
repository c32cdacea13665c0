"""`sbom.cdx.json`: everything inside, as CycloneDX 1.6. Owns which component counts as inside.

A Debian package counts when one of its files is left in the root or the boot partition; documents do not count.
"""

from __future__ import annotations

import datetime
import email.parser
import json
import re
import uuid
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from image.definition import IMAGE_NAME, kernel_package, lock_time, locked_packages, version
from image.ours import PLACE

# Packages whose files go into the boot partition instead of the root.
_BOOT_PACKAGES: Final = ("systemd-boot-efi",)
Component = dict[str, Any]


def write_sbom(folder: Path, *, base: Path, wheels: Path, root: Path, root_hash: str) -> Path:
    """Write it beside the disk and return its path; the same root gives the same bytes."""
    components = [*_debian(base, root), *_python(root, wheels)]
    when = datetime.datetime.fromtimestamp(lock_time(), datetime.UTC)
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{IMAGE_NAME} {root_hash}')}",
        "version": 1,
        "metadata": {
            "timestamp": when.isoformat().replace("+00:00", "Z"),
            "component": {"type": "operating-system", "bom-ref": IMAGE_NAME, "name": IMAGE_NAME, "version": version()},
        },
        "components": components,
    }
    path = folder / "sbom.cdx.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _debian(base: Path, root: Path) -> list[Component]:
    inside = {*_BOOT_PACKAGES, kernel_package(), *packages_left(base, root)}
    return [
        {
            "type": "library",
            "bom-ref": f"deb/{name}",
            "name": name,
            "version": version_,
            "purl": package_url(name, version_),
        }
        for name, version_ in sorted(locked_packages().items())
        if name in inside
    ]


def package_url(name: str, package_version: str) -> str:
    """The package URL of a Debian package of the image's release."""
    return f"pkg:deb/debian/{name}@{quote(package_version)}?arch=amd64&distro=debian-13"


def packages_left(base: Path, root: Path) -> dict[str, int]:
    """Packages with a file left in the root, and how many bytes of it."""
    lists = base / "tree/var/lib/dpkg/info"
    left: dict[str, int] = {}
    for listing in sorted(lists.glob("*.list")):
        # Debian's lists still name files where they were before /bin became a link to /usr/bin.
        names = (re.sub(r"^/(bin|sbin|lib|lib64)/", r"/usr/\1/", line) for line in listing.read_text().splitlines())
        paths = (root / name.lstrip("/") for name in names if "/usr/share/doc/" not in name)
        sizes = [path.lstat().st_size for path in paths if path.is_symlink() or path.is_file()]
        if sizes:
            left[listing.stem.split(":")[0]] = sum(sizes)
    return left


def _python(root: Path, wheels: Path) -> list[Component]:
    locked = (wheels / "run.txt").read_text()
    found = []
    for metadata in sorted((root / PLACE).glob("*.dist-info/METADATA")):
        headers = email.parser.Parser().parsestr(metadata.read_text(errors="replace"), headersonly=True)
        name = re.sub(r"[-_.]+", "-", headers["Name"]).lower()
        if name == IMAGE_NAME:
            continue  # the whole image is that
        part = re.search(rf"^{re.escape(name)}==.*?(?=^\S|\Z)", locked, re.MULTILINE | re.DOTALL)
        component: Component = {
            "type": "library", "bom-ref": f"pypi/{name}", "name": name, "version": headers["Version"],
            "purl": f"pkg:pypi/{name}@{headers['Version']}",
        }  # fmt: skip
        if part is not None:
            # What the lock accepts: one archive for each platform.
            hashes = re.findall(r"sha256:([0-9a-f]{64})", part[0])
            component["properties"] = [{"name": "tillstone:locked-sha256", "value": value} for value in sorted(hashes)]
        found.append(component)
    return found

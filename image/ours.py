"""Our own code in the image's root. Owns /usr/lib/tillstone, where the wheels lie too."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from image.definition import IMAGE_NAME, PROJECT, Profile, items, version

PLACE: Final = Path("usr/lib/tillstone")


def add_ours(root: Path, profile: Profile) -> None:
    """Our packages beside the wheels; the release profile has what the process and the ceremony import and no more."""
    for name in ("appliance", "drivers"):
        _copy(name, root / PLACE)
    for name in items("provisioning.txt") if profile == "release" else ("",):
        _copy(f"provisioning/{name}", root / PLACE)
    # Python reads this at its start, also with -I.
    (root / "usr/lib/python3/dist-packages/tillstone.pth").write_text(f"/{PLACE}\n")
    # Where the process reads its version.
    metadata = root / PLACE / f"{IMAGE_NAME}-{version()}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {IMAGE_NAME}\nVersion: {version()}\n")


def _copy(name: str, to: Path) -> None:
    source = PROJECT / name
    if source.is_file():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, to / name)
        return
    shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.md", "docs", "*.sh"))

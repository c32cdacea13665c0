"""Our own code in the image's root. Owns /usr/lib/tillstone, where the wheels lie too."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from image.definition import IMAGE_NAME, PROJECT, Profile, version

PLACE: Final = Path("usr/lib/tillstone")


def add_ours(root: Path, profile: Profile) -> None:
    """Our packages beside the wheels; the release profile has what the process imports and no more."""
    ours = ("appliance", "drivers") if profile == "release" else ("appliance", "drivers", "provisioning")
    for name in ours:
        ignore = shutil.ignore_patterns("__pycache__", "*.md", "docs", "*.sh")
        shutil.copytree(PROJECT / name, root / PLACE / name, ignore=ignore)
    # Python reads this at its start, also with -I.
    (root / "usr/lib/python3/dist-packages/tillstone.pth").write_text(f"/{PLACE}\n")
    # Where the process reads its version.
    metadata = root / PLACE / f"{IMAGE_NAME}-{version()}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {IMAGE_NAME}\nVersion: {version()}\n")

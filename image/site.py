"""The Python part of the image's root: wheels unpacked, less what the process never imports."""

from __future__ import annotations

import shutil
from pathlib import Path

from image.definition import items
from image.tools import Tools


def install_wheels(tools: Tools, wheels: Path, folder: Path) -> None:
    """Unpack the wheels into `folder/site`; nothing is fetched."""
    pip = ["python3", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--require-hashes"]
    pip += [
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--break-system-packages",
        f"--find-links={wheels}",
    ]
    tools.run(*pip, "--target", folder / "build", "-r", wheels / "build.txt")
    inside = {"PYTHONPATH": str(folder / "build"), "CFLAGS": "-g0 -O2"}
    tools.run(*pip, "--no-build-isolation", "--target", folder / "site", "-r", wheels / "run.txt", environment=inside)
    tools.run("python3", "-m", "pip", "check", environment={"PYTHONPATH": str(folder / "site")})
    shutil.rmtree(folder / "build")
    shutil.rmtree(folder / "site" / "bin", ignore_errors=True)
    for record in (folder / "site").glob("*.dist-info"):
        # Where it was installed from differs from build to build.
        for name in ("RECORD", "direct_url.json", "INSTALLER", "REQUESTED"):
            (record / name).unlink(missing_ok=True)
    for left_out in items("wheel-parts-left-out.txt"):
        for path in sorted((folder / "site").glob(left_out)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

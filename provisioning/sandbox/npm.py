"""Programs from npm for the sandbox: installed once per checkout under `build/node`, exactly as a lock file says.

Owns the installation. Must never install what the lock does not name by its hash.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path
from typing import Final

from provisioning.sandbox.children import ChildFailed

PROJECT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = Path(__file__).parent / "node"


def install(name: str, program: str, *, options: tuple[str, ...] = (), seconds_max: float) -> Path:
    """Make the locked packages of the folder `name` present; returns `program` of them, a path in `node_modules`.

    Other installers of the checkout wait for each other; a changed lock installs anew.

    Raises:
        ChildFailed: Node.js or npm is missing, or npm failed.
    """
    package, installed = PACKAGES / name, PROJECT / "build" / "node" / name
    installed.mkdir(parents=True, exist_ok=True)
    path = installed / "node_modules" / program
    wanted = (package / "package-lock.json").read_text()
    stamp = installed / "installed"
    with (installed / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if missing := [each for each in ("node", "npm") if shutil.which(each) is None]:
            raise ChildFailed(f"not installed: {', '.join(missing)}")
        if stamp.exists() and stamp.read_text() == wanted and path.exists():
            return path
        for file in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(package / file, installed / file)
        command = ["npm", "ci", "--no-audit", "--no-fund", *options]
        ended = subprocess.run(command, cwd=installed, check=False, capture_output=True, text=True, timeout=seconds_max)
        if ended.returncode != 0:
            raise ChildFailed(f"npm could not install the {name} node: {ended.stderr[-400:]}")
        stamp.write_text(wanted)
    return path

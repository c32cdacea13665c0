"""Breaking one thing at a time in a running sandbox, told in order: what is broken, what the shop says, how it heals.

Each module breaks one thing and puts it back in a `finally`, also when it is interrupted. Must never touch anything
outside the sandbox's folder and its own processes.
"""

from __future__ import annotations

import importlib

from provisioning.commands.outcome import DONE, NO
from provisioning.sandbox.breaks.scene import Scene
from provisioning.sandbox.layout import SandboxFolder


def break_one(what: str, folder: SandboxFolder) -> int:
    """Play the scene `what`; 1 when the shop did something else than promised."""
    scene = Scene(folder)
    importlib.import_module(f"provisioning.sandbox.breaks.{what}").play(scene)
    return DONE if scene.close() else NO

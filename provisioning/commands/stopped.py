"""A box that is stopped, for as long as a command needs it: nobody else has it meanwhile, and its TPM is on.

Owns the locks, and the software TPM's power. Must never touch a running box, least of all its TPM.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.model.errors import Unavailable
from provisioning.commands.outcome import CannotDo

if TYPE_CHECKING:
    from provisioning.box import Box


@contextmanager
def stopped_box(arguments: argparse.Namespace) -> Iterator[Box]:
    """The box in `--dir` while nobody else has it. Raises CannotDo."""
    from appliance.ledger.recover import lock_folder
    from provisioning.box import BoxFailed, read_box
    from provisioning.sandbox.layout import SandboxFolder
    from provisioning.swtpm import SwtpmError
    from provisioning.token import TokenFailed

    running = CannotDo("the box runs; nothing was touched", "stop it, then run the same command again")
    folder = box_folder(arguments)
    try:
        box = read_box(folder)
        with ExitStack() as held:
            if folder.name == "box":
                lock = SandboxFolder.at(folder.parent).lock()
                if lock is None:
                    raise running
                held.callback(os.close, lock)
            if box.data.is_dir():
                os.close(lock_folder(box.data))  # looked at only: what follows opens the log itself
            os.environ.update(box.environment)  # where SoftHSM finds its store
            yield box
    except Unavailable as refusal:
        if refusal.code != "ledger_locked":
            raise
        raise running from refusal
    except (BoxFailed, SwtpmError, TokenFailed) as trouble:
        raise CannotDo(str(trouble), "nothing was signed; put that right, then run the same command again") from trouble


@contextmanager
def box_with_devices(arguments: argparse.Namespace) -> Iterator[tuple[Box, str | None]]:
    """The stopped box, and where its TPM is: a software TPM is switched on for as long as it takes."""
    from provisioning.box import start_tpm

    with stopped_box(arguments) as box:
        if not box.tpm.is_dir():
            yield box, None
            return
        running = start_tpm(box)
        try:
            yield box, running.tcti
        finally:
            running.process.terminate()
            running.process.wait()


def box_folder(arguments: argparse.Namespace) -> Path:
    """The box's folder, which `--dir` names itself or as a sandbox's."""
    folder: Path = arguments.dir
    return next((path for path in (folder / "box", folder) if (path / "box.json").is_file()), folder)

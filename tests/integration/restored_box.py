"""A box that was restored from a backup: its own devices, and the settings of the one that died. Holds no test."""

from __future__ import annotations

import re
from pathlib import Path

from provisioning.box import read_box, start_tpm
from provisioning.certificate import DoorFiles
from provisioning.local_door import LocalDoor
from tests.integration.box import RunningBox


class RestoredBox(RunningBox):
    """As it lies in `folder`; only where its software TPM is differs from start to start."""

    def __init__(self, folder: Path) -> None:
        self.box = read_box(folder)
        self.log_file = folder.with_name("restored.log")
        self.log_file.touch(mode=0o600)
        self.local = LocalDoor(self.box.data)
        tls = folder / "tls"
        self.door = DoorFiles(
            authority=tls / "authority.pem", certificate=tls / "pos-certificate.pem", key=tls / "pos-key.pem"
        )
        self.twin = None
        self.port = self.public_port = 0
        self._process = None
        self._tpm = start_tpm(self.box)

    def _write_settings(self) -> None:
        settings = self.box.settings.read_text()
        self.box.settings.write_text(re.sub(r'^tcti = ".*"$', f'tcti = "{self.tcti}"', settings, flags=re.MULTILINE))

"""An installer, his stick and the owner's computer, for tests of the ceremony: all of it through the command line.

Owns the folders of one story. Must never end a process that it did not start.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from provisioning.box import read_box
from provisioning.certificate import DoorFiles
from provisioning.local_door import LocalDoor
from tests.integration.box import RunningBox

SITE: Final = """\
[shop]
name = "Bakery"
owner = "bakery.example"
currency = "EUR"
country = "DE"
timezone = "Europe/Berlin"

[network]
address = "192.0.2.10/24"
gateway = "192.0.2.1"
dns = ["192.0.2.1"]

[recovery]
recipient_path = "files/recovery.pub"

[provider.stripe]
api_base = "http://127.0.0.1:9"
api_key_path = "files/stripe-key"

[pos]
host = "127.0.0.1"
port = 0

[public]
port = 0

"""
SECRET: Final = "sk_test_neverInTheClear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    code: int
    out: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(*arguments: object) -> Said:
    done = subprocess.run(
        [sys.executable, "-m", "provisioning.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Said(code=done.returncode, out=done.stdout, errors=done.stderr)


class Owner:
    """The owner's computer: key, policy key, recovery key, and what one shop's settings shall be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for action in (("new", "-o", folder / "key"), ("policy-key", folder / "policy.pem")):
            assert command("owner", *action).code == 0
        assert command("owner", "recovery-key", folder / "recovery").code == 0
        self.site = folder / "site.toml"
        self.site.write_text(SITE)
        files = folder / "files"
        files.mkdir(mode=0o700)
        shutil.copy(folder / "recovery.pub", files / "recovery.pub")
        key = files / "stripe-key"
        key.touch(mode=0o600)
        key.write_text(SECRET + "\n")

    def sign(self, stick: Path, *, site: Path | None = None) -> Said:
        """Answer the request on `stick`, onto it; what was answered before is written over there."""
        signed = self.folder / "signed"
        shutil.rmtree(signed, ignore_errors=True)
        shares = [("--share", self.folder / "key" / f"share-{number}.txt") for number in (1, 2)]
        trusted = ("--trust", self.folder / "key" / "trust.json", "--policy-key", self.folder / "policy.pem")
        said = command(
            *("owner", "sign-site", site or self.site, "--for", stick / "box.request", *trusted),
            *(part for share in shares for part in share),
            *("-o", signed, "--yes"),
        )
        if said.code == 0:
            for path in signed.iterdir():
                shutil.copy(path, stick / path.name)
        return said


class Visit:
    """A box with a software TPM, and a stick."""

    def __init__(self, folder: Path) -> None:
        self.box = folder / "box"
        self.stick = folder / "stick"
        self.stick.mkdir(parents=True)

    def provision(self, *arguments: object) -> Said:
        return command(*self.arguments, *arguments)

    @property
    def arguments(self) -> tuple[object, ...]:
        return ("provision", "--dir", self.box, "--stick", self.stick, "--software-tpm")

    def content(self) -> dict[str, str]:
        """Every file of the box by its hash, but for the TPM's own state, which counts how often it was started."""
        found = {
            str(path.relative_to(self.box)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.box.rglob("*"))
            if path.is_file()
        }
        return {name: digest for name, digest in found.items() if not name.startswith("tpm/")}


class ProvisionedBox(RunningBox):
    """A box as its ceremony left it: its own settings, its own certificate."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        tls = self.box.folder / "tls"
        self.box = read_box(folder / "box")
        self.local = LocalDoor(self.box.data)
        self.door = DoorFiles(
            authority=tls / "authority.pem", certificate=tls / "pos-certificate.pem", key=tls / "pos-key.pem"
        )

    def _write_settings(self) -> None:
        """The ceremony wrote them."""

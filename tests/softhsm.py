"""A real SoftHSM token for tests: own folder, own PIN made at run time, thrown away with the folder."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from drivers.hsm import library as hsm_library
from drivers.hsm.library import Library
from drivers.hsm.token import Pin, Session, Token

LIBRARY_PATH: Final = "/usr/lib/softhsm/libsofthsm2.so"
LABEL: Final = "tillstone-test"


class SoftHsm:
    """One store of tokens; the process's SoftHSM library is pointed at it for as long as the test lasts."""

    def __init__(self, directory: Path) -> None:
        self.tokens_directory = directory / "tokens"
        self.tokens_directory.mkdir()
        self.configuration = directory / "softhsm2.conf"
        self.configuration.write_text(f"directories.tokendir = {self.tokens_directory}\nlog.level = ERROR\n")
        self.pin = Pin(secrets.token_hex(8))

    def make_token(self, label: str = LABEL) -> None:
        """A new, empty token; a second one of the same label is allowed, as in the field."""
        pins = ("--so-pin", secrets.token_hex(8), "--pin", self.pin.reveal())
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", label, *pins],
            check=True,
            capture_output=True,
            env={"SOFTHSM2_CONF": str(self.configuration), "PATH": "/usr/bin:/bin"},
        )

    def library(self) -> Library:
        return hsm_library.load(LIBRARY_PATH)

    def open_token(self) -> Token:
        """Log in after a fresh Initialize: the login of an earlier user of this process is gone."""
        library = self.library()
        library.reinitialise()
        return Token.open(library=library, label=LABEL, serial=None, pin=self.pin)

    def open_session(self) -> Session:
        """A session that may make keys."""
        return self.open_token().session(writable=True)

    def unplug(self) -> None:
        self.tokens_directory.rename(self.tokens_directory.with_name("unplugged"))

    def plug_in(self) -> None:
        self.tokens_directory.with_name("unplugged").rename(self.tokens_directory)


@contextmanager
def soft_hsm(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftHsm]:
    """A store with one token labelled `LABEL`; nothing is logged in yet."""
    if not Path(LIBRARY_PATH).exists() or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM (package softhsm2) is missing")
    hsm = SoftHsm(directory)
    monkeypatch.setenv("SOFTHSM2_CONF", str(hsm.configuration))
    hsm.make_token()
    hsm.library().reinitialise()
    yield hsm

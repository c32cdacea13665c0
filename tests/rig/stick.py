"""A release image becomes its owner's box: two visits with a stick, the owner's computer between them.

Owns the stick's content (FAT, by mtools) and the story. The owner's side is the shipped commands, as
`tests/integration/ceremony.py` gives them.
"""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from image.tools import Tools
from tests.integration.ceremony import Owner, command
from tests.rig.audit import fetch
from tests.rig.box import START_S_MAX, Box, BoxFailed
from tests.rig.tills import POS

SITE: Final = """\
[shop]
name = "Bakery"
owner = "bakery.example"
currency = "EUR"
country = "DE"
timezone = "Europe/Berlin"

[recovery]
recipient_path = "files/recovery.pub"

[public]
host = "0.0.0.0"
"""
_KILOBYTES: Final = 16_384
_SETTLED_S: Final = 10.0
_LOOK_S: Final = 0.5


class Stick:
    """Its content, in a file that a machine takes for a disk."""

    def __init__(self, tools: Tools, file: Path) -> None:
        self._tools = tools
        self.file = file
        tools.run("mkfs.vfat", "-C", "-n", "TILLSTONE", file, str(_KILOBYTES))

    def take(self, name: str, folder: Path) -> Path:
        """Copy a file of the stick into `folder`."""
        self._tools.run("mcopy", "-o", "-i", self.file, f"::{name}", folder)
        return folder / name

    def put(self, files: list[Path]) -> None:
        self._tools.run("mcopy", "-o", "-i", self.file, *files, "::")


def become_owners(box: Box, tools: Tools, folder: Path) -> str:
    """Both visits, until the doors answer on the LAN; says what was seen. Raises BoxFailed."""
    owner = Owner(folder / "owner")
    owner.site.write_text(SITE)
    stick, table = Stick(tools, folder / "stick.img"), folder / "stick"
    table.mkdir()
    try:
        _visit(box, stick, "asks its owner")
        stick.take("box.request", table)
        signed = owner.sign(table)
        if signed.code != 0:
            raise BoxFailed(f"the owner cannot sign: {signed.errors}")
        stick.put([path for path in table.iterdir() if path.name != "box.request"])
        _visit(box, stick, "is its owner's box and may start", stays_on=True)
        opened_s = _wait_for_door(box)
        trust = table / "trust.json"
        if fetch("/trust.json") != trust.read_bytes():
            raise BoxFailed("the box shows another trust.json than its owner signed")
        (table / "checkpoint").write_bytes(fetch("/checkpoint"))
        _must(command("verify", "checkpoint", table / "checkpoint", "--trust", trust).code, "its checkpoint")
    finally:
        box.cut_power()
    _must(command("provision", "verify", stick.take("transcript.cbor", table), "--trust", trust).code, "its transcript")
    return f"doors open {opened_s:.0f} s after power-on; checkpoint and transcript verify under the owner's key"


def _visit(box: Box, stick: Stick, said: str, *, stays_on: bool = False) -> None:
    box.power_on(stick.file)
    box.wait_for(said, START_S_MAX)
    if not stays_on:
        time.sleep(_SETTLED_S)  # the stick is unmounted when the unit has ended
        box.cut_power()


def _wait_for_door(box: Box) -> float:
    """Until the box answers on the LAN; seconds after power-on. Raises BoxFailed."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # nobody is paired: only whether it answers
    ends_at = time.monotonic() + START_S_MAX
    while time.monotonic() < ends_at:
        try:
            with urllib.request.urlopen(f"{POS}/v1/info", timeout=10, context=anybody) as answer:
                if answer.status == 200:
                    return box.up_s
        except (urllib.error.URLError, OSError):
            time.sleep(_LOOK_S)
    raise BoxFailed(f"no door answers:\n{box.said()[-800:]}")


def _must(code: int, what: str) -> None:
    if code != 0:
        raise BoxFailed(f"{what} does not verify")

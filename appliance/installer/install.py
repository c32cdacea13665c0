"""Installing one update: everything is verified again, the slot that does not run is written, and what can be started
comes last.

    verify the whole file          nothing was touched
    remove other kernel images     the running image is the only one that can be started
    write root and hash tree       into the other slot
    read them back, compare        what the medium has is what the owner signed
    name the slot                  both copies of the partition table
    add the kernel image           from here on the next start is the new image's, three times at most

Cut anywhere, the running slot is as it was, and doing it again from the beginning is right. Owns this order. Must never
write to the slot that runs, nor install while that one is not confirmed itself: then the other slot is the good one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.crypto.owner import OwnerPublic, SignedStatement
from appliance.evidence.update import Installed, UpdateStatement, read_update_statement, require_update
from appliance.evidence.update_file import UpdateStream, chunks, read_update
from appliance.model.errors import Rejected
from appliance.wire.installer import Installing, Report
from drivers.slots.blocks import Blocks
from drivers.slots.boot_entries import TRIES, BootEntries, BootEntry
from drivers.slots.errors import SlotFull, SlotsForeign
from drivers.slots.slots import Slots, identifiers

IMAGE_NAME: Final = "tillstone"
_TRIED_AND_LEFT: Final = "update_not_healthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The image that runs now.

    Attributes:
        boot: the kernel's name of this boot.
    """

    root_hash: bytes
    installed: Installed
    boot: str


class Installer:
    """Brings a request to its end, from wherever it stands."""

    def __init__(self, *, blocks: Blocks, entries: BootEntries, owner: OwnerPublic, running: Running) -> None:
        self._blocks = blocks
        self._entries = entries
        self._owner = owner
        self._running = running

    def settle(self, update: Path, asked: str, before: Report | None) -> Report:
        """Install `update`, or say what became of it.

        Args:
            asked: names the request.
            before: the last report; of another request it says nothing here.
        Raises:
            OSError: the disk did not do what it must; try again.
        """
        before = before if before is not None and before.asked == asked else None
        try:
            wanted = _wanted(update)
            if wanted.root_hash == self._running.root_hash:
                return self._report(asked, self._how_it_runs(wanted), wanted)
            if before is not None and before.state in (Installing.REFUSED, Installing.FELL_BACK):
                return before
            if before is not None and before.boot != self._running.boot:
                return self._fallen_back(asked, wanted)
            if not self._is_installed(wanted):
                self._install(update)
            return self._report(asked, Installing.INSTALLED, wanted)
        except SlotFull as full:
            return self._refused(asked, "update_no_room", str(full))
        except Rejected as refusal:
            return self._refused(asked, refusal.code, refusal.detail)

    def _refused(self, asked: str, code: str, detail: str) -> Report:
        return Report(asked=asked, state=Installing.REFUSED, code=code, detail=detail[:500], boot=self._running.boot)

    def _how_it_runs(self, wanted: UpdateStatement) -> Installing:
        entry = self._entries.of(wanted.version)
        is_confirmed = entry is not None and entry.tries_left is None
        return Installing.CONFIRMED if is_confirmed else Installing.TRYING

    def _fallen_back(self, asked: str, wanted: UpdateStatement) -> Report:
        entry = self._entries.of(wanted.version)
        tries = 0 if entry is None else entry.tries_done
        detail = f"{self._running.installed.version} was started again after {tries} tries of {wanted.version}"
        return self._report(asked, Installing.FELL_BACK, wanted, code=_TRIED_AND_LEFT, detail=detail)

    def _is_installed(self, wanted: UpdateStatement) -> bool:
        """Whether an earlier run came to its end, and only its report is missing."""
        entry = self._entries.of(wanted.version)
        other = self._slots().other
        is_named = (other.root.identifier, other.verity.identifier) == identifiers(wanted.root_hash)
        return is_named and entry is not None and (entry.tries_left, entry.tries_done) == (TRIES, 0)

    def _install(self, update: Path) -> None:
        statement = read_update(update, self._judge)
        slots, mine = self._slots(), self._own_entry()
        self._require_room(statement, slots, mine)
        self._entries.remove_all_but(mine.version)
        kernel = self._write(update, slots)
        for part in ("root", "verity"):
            if slots.sha256(part, statement.parts[part].size) != statement.parts[part].sha256:
                raise OSError(f"the disk gave back another {part} than was written")
        slots.name_other(f"{IMAGE_NAME}_{statement.version}", statement.root_hash)
        self._entries.put(statement.version, kernel)

    def _write(self, update: Path, slots: Slots) -> bytes:
        """Root and hash tree are on the medium; returns the kernel image."""
        written = {"root": 0, "verity": 0}
        kernel = bytearray()

        def take(part: str, content: bytes) -> None:
            if part in written:
                slots.write(part, written[part], content)
                written[part] += len(content)
            else:
                kernel.extend(content)

        # Judged once more: between the two readings the file may have become another one.
        read_update(update, self._judge, take)
        slots.sync()
        return bytes(kernel)

    def _judge(self, signed: SignedStatement) -> UpdateStatement:
        return require_update(signed, self._owner, self._running.installed)

    def _slots(self) -> Slots:
        try:
            return Slots(self._blocks, self._running.root_hash)
        except SlotsForeign as cause:
            raise Rejected("update_disk_foreign", str(cause)) from cause

    def _own_entry(self) -> BootEntry:
        mine = self._entries.of(self._running.installed.version)
        if mine is None or mine.tries_left is not None:
            raise Rejected("update_unconfirmed", "the image that runs is not confirmed itself; the other slot is kept")
        return mine

    def _require_room(self, statement: UpdateStatement, slots: Slots, mine: BootEntry) -> None:
        for part, partition in (("root", slots.other.root), ("verity", slots.other.verity)):
            if statement.parts[part].size > partition.size:
                raise Rejected("update_no_room", f"the {part} of a slot has {partition.size} bytes")
        removable = sum(each.path.stat().st_size for each in self._entries.all() if each.version != mine.version)
        room = os.statvfs(mine.path.parent)
        if statement.parts["uki"].size > room.f_bavail * room.f_frsize + removable:
            raise Rejected("update_no_room", "the boot partition has no room for the kernel image")

    def _report(
        self, asked: str, state: Installing, about: UpdateStatement, *, code: str = "", detail: str = ""
    ) -> Report:
        return Report(
            asked=asked,
            state=state,
            version=about.version,
            number=about.number,
            code=code,
            detail=detail,
            boot=self._running.boot,
        )


def _wanted(update: Path) -> UpdateStatement:
    """What the file says it is; not believed, only compared with what runs."""
    stream = UpdateStream(lambda signed: read_update_statement(signed.statement))
    with update.open("rb") as file:
        for chunk in chunks(file):
            stream.feed(chunk)
            if stream.statement is not None:
                return stream.statement
    return stream.finish()

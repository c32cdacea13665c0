"""A lost box's shop on a blank one: everything is checked, then put in place, then the owner is asked for a new log.

Owns the order of steps and what may be in the way. Must never put anything in place before all of it was right, and
never begin a log: that is the owner's to sign (`tillstone owner succeed`, `tillstone succession begin`).

    unpack     into `restoring/`, checked as a whole; begun anew whenever it was cut short
    devices    this box's own token, TPM and keys, if it has none yet
    secrets    the store key and the vault's data keys, wrapped by this box's token
    settings   the old box's, with this box's devices in them
    data       renamed into place: from here on the backup is restored
    request    what the owner is asked to sign

Each step is done again, or found done, by running the same command again.
Source: docs/formats/backup.md; docs/succession.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from appliance.config.schema import Shop
from appliance.device.backup import CHECKPOINT_FILE
from appliance.ledger.backup_file import BackupReader
from appliance.ledger.genesis import read_body, read_statement
from appliance.ledger.recover import fsync_folder
from appliance.ledger.subject_keys import STORE_KEY_FILE
from appliance.ledger.trust import Trust
from appliance.model.errors import Rejected
from appliance.payment.vault.moving import put_keys
from appliance.ports.clock import Clock
from appliance.wiring.projections import projections
from appliance.wiring.trust import STORE_KEY_PURPOSE, open_cipher
from provisioning.box import (
    Box,
    BoxFailed,
    ShopFacts,
    keep_box,
    log_keys,
    make_devices,
    private_folder,
    read_box,
    start_tpm,
)
from provisioning.ceremony.record import only_installer
from provisioning.restore.age import ShownHead, ask_witnesses, read_shown, require_newest
from provisioning.restore.unpack import Unpacked, unpack
from provisioning.settings_file import write_restored
from provisioning.succession import REQUEST, request_successor, settings_of
from provisioning.terminal.durable import write_durably
from provisioning.verify.ledger_folder import open_folder

MARKER: Final = "restore.json"
LAST_HEAD: Final = "last-head"
"""The newest head of the old log that anybody showed: what the owner's `succeed` is given."""
_WORK: Final = "restoring"
_ROOM_TIMES: Final = 4
"""The log, its tables, and the write-ahead log from which they are made, for each byte of the file."""
_ROOM_BYTES_MIN: Final = 64 << 20
_DOOR: Final = "pos."

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be restored, and where.

    Attributes:
        tcti: of the TPM of the machine; None makes a software one in the folder.
        is_offline: no witness is asked how long the log was.
        kept_head: a checkpoint that somebody kept.
        accepted_loss: entries that the operator knows to be missing.
        further: an exported log that goes further than the backup.
    """

    file: Path
    seed: bytes
    trust: Trust
    tcti: str | None = None
    is_offline: bool = False
    kept_head: bytes | None = None
    accepted_loss: int = 0
    further: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What came of it: the old log's entries; `request` is for the owner, None once the new log has begun."""

    box: Box
    size: int
    request: bytes | None


class _Marker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """restore.json: which backup this folder is restored from."""

    version: int
    backup: str
    origin: str
    size: int


def check(wish: Wish, folder: Path, on_step: Step) -> Unpacked:
    """Everything that can be checked without a box, in `folder`, which is empty. Raises as `restore`."""
    _require_room(wish.file, folder)
    return _checked(wish, folder, on_step)[0]


def restore(wish: Wish, folder: Path, clock: Clock, on_step: Step = lambda _step: None) -> Restored:
    """Restore into `folder`: new, or a box's whose devices were made and whose log has not begun.

    Raises:
        Rejected: as `unpack`, `ask_witnesses` and `require_newest`; `restore_not_blank`, `restore_no_room`.
        BoxFailed, SwtpmError, TokenFailed: a device could not be made; run again.
        Unavailable, Corrupt: the TPM or the token does not work; run again.
    """
    marker = _marker_of(wish)
    _require_blank(folder, marker)
    with only_installer(folder):
        if not (folder / "data").exists():
            _require_room(wish.file, folder)
            _restore(wish, folder, marker, clock, on_step)
        shutil.rmtree(folder / _WORK, ignore_errors=True)
        box = read_box(folder)
        origin = read_body((folder / "genesis.cbor").read_bytes()).read().origin
        if origin != marker.origin:
            return Restored(box=box, size=marker.size, request=None)
        with open_folder(box.data) as restored:
            return Restored(box=box, size=restored.head.size, request=_request(box))


def _restore(wish: Wish, folder: Path, marker: _Marker, clock: Clock, on_step: Step) -> None:
    work = folder / _WORK
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        unpacked, shown = _checked(wish, work, on_step)
    except Rejected:
        shutil.rmtree(work)  # nothing of what was refused stays
        raise
    write_durably(folder / MARKER, msgspec.json.encode(marker))  # from here on the folder is for this backup
    on_step("this box's own devices")
    box = _own_devices(folder, unpacked, wish.tcti)
    _put_in_place(box, unpacked, shown, wish.tcti, clock, on_step)
    (work / "data").rename(folder / "data")
    fsync_folder(folder)


def _request(box: Box) -> bytes:
    """What the owner is asked to sign; asked once, so that it is not signed in vain."""
    file = box.folder / REQUEST
    if file.exists():
        asked = read_statement(file.read_bytes())
        if asked.keys == log_keys(box.keys) and asked.origin != box.shop.origin:
            return asked.encode()
    return request_successor(box)


def _marker_of(wish: Wish) -> _Marker:
    """Also opens the file: a wrong key or half a file leaves the folder as it was."""
    with wish.file.open("rb") as file:
        header = BackupReader(file, wish.seed).header
        file.seek(0)
        beginning = file.read(len(header.encode()) + 2_048)  # header and sealed key: unlike those of any other backup
    return _Marker(version=1, backup=hashlib.sha256(beginning).hexdigest(), origin=header.origin, size=header.size)


def _require_blank(folder: Path, marker: _Marker) -> None:
    """Return if `folder` is new, a box's whose log has not begun, or one that is restored from this backup already."""
    file = folder / MARKER
    if file.exists():
        try:
            other = msgspec.json.decode(file.read_bytes(), type=_Marker)
        except msgspec.MsgspecError:
            other = None
        if other != marker:
            raise _not_blank(folder, "another backup was restored there, or half of one")
        return
    begun = next((name for name in ("genesis.cbor", "data") if (folder / name).exists()), None)
    if begun is not None:
        raise _not_blank(folder, f"it has a log already ({begun})")
    try:
        private_folder(folder)
    except BoxFailed as cause:
        raise _not_blank(folder, "it holds other files") from cause


def _checked(wish: Wish, work: Path, on_step: Step) -> tuple[Unpacked, ShownHead | None]:
    """The backup's content, genuine and as new as anybody can say; and the newest head that was shown."""
    with ExitStack() as opened:
        unpacked = unpack(
            opened.enter_context(wish.file.open("rb")),
            seed=wish.seed,
            trust=wish.trust,
            folder=work,
            tables=projections(),
            further=None if wish.further is None else opened.enter_context(wish.further.open("rb")),
            on_step=on_step,
        )
    header = unpacked.header
    notes = {"the backup itself": _kept_note(unpacked), "--head": wish.kept_head}
    shown = [
        read_shown(note, by=by, origin=header.origin, log_id=header.log_id, trust=unpacked.trust)
        for by, note in notes.items()
        if note is not None
    ]
    if not wish.is_offline:
        on_step("asking the witnesses how long the log was")
        shown += ask_witnesses(unpacked)
    require_newest(unpacked, shown, accepted_loss=wish.accepted_loss)
    return unpacked, max(shown, key=lambda each: each.head.size, default=None)


def _kept_note(unpacked: Unpacked) -> bytes | None:
    note = unpacked.files.get(CHECKPOINT_FILE)
    return None if note is None else note.read_bytes()


def _own_devices(folder: Path, unpacked: Unpacked, tcti: str | None) -> Box:
    """Token, TPM and keys; the shop is the old box's, in the old log's generation."""
    shop = msgspec.convert(unpacked.settings["shop"], Shop)
    owner, serial, generation = unpacked.header.origin.split("/")
    facts = ShopFacts(
        name=shop.name,
        owner=owner,
        serial=serial,
        currency=shop.currency,
        country=shop.country,
        timezone=shop.timezone,
        generation=int(generation),
    )
    return replace(make_devices(folder, shop=facts, tcti=tcti), shop=facts)


def _put_in_place(
    box: Box, unpacked: Unpacked, shown: ShownHead | None, tcti: str | None, clock: Clock, on_step: Step
) -> None:
    """Everything but the log itself; nothing of it starts a box whose log is not there."""
    on_step("settings and secrets, under this box's own keys")
    named = {place: path for place, path in unpacked.files.items() if place != CHECKPOINT_FILE}
    files = {place: _place(box, place, path, unpacked) for place, path in named.items()}
    keep_box(box)
    write_durably(box.folder / "genesis.cbor", unpacked.genesis.encode_body())
    write_durably(box.trust, unpacked.trust.encode())
    if shown is not None:
        write_durably(box.folder / LAST_HEAD, shown.note)
    running = start_tpm(box) if tcti is None else None
    try:
        os.environ.update(box.environment)  # where SoftHSM finds its store
        where = tcti if running is None else running.tcti
        write_restored(box, tcti=str(where), table=unpacked.settings, files=files)
        asyncio.run(_wrap(box, unpacked, where, clock))
    finally:
        if running is not None:
            running.process.terminate()
            running.process.wait()


def _place(box: Box, place: str, path: Path, unpacked: Unpacked) -> Path:
    """Copy a file that the settings name to where this box has it: the door's beside each other, by their old names."""
    folder, name = box.folder / "settings", place
    if place.startswith(_DOOR):
        folder, name = box.folder / "tls", place.removeprefix(_DOOR)
        if name in unpacked.settings["pos"]:
            name = Path(unpacked.settings["pos"][name]).name
    folder.mkdir(mode=0o700, exist_ok=True)
    write_durably(folder / name, path.read_bytes())
    return folder / name


async def _wrap(box: Box, unpacked: Unpacked, tcti: str | None, clock: Clock) -> None:
    """The secrets under this box's key-encryption key, opened once more before anything hangs on them."""
    async with open_cipher(settings_of(box, tcti), clock) as cipher:
        wrapped = await cipher.wrap(unpacked.store_key, STORE_KEY_PURPOSE)
        if await cipher.unwrap(wrapped, STORE_KEY_PURPOSE) != unpacked.store_key:
            raise Rejected("restore_token_wrong", "this box's token does not give back what it wrapped")
        write_durably(unpacked.folder / STORE_KEY_FILE, wrapped)
        await put_keys(unpacked.folder, cipher, unpacked.data_keys)


def _require_room(file: Path, folder: Path) -> None:
    needed = max(_ROOM_BYTES_MIN, _ROOM_TIMES * file.stat().st_size)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Rejected("restore_no_room", f"expected {needed >> 20} MB of free space in {folder}, saw {free >> 20}")


def _not_blank(folder: Path, why: str) -> Rejected:
    return Rejected("restore_not_blank", f"{folder} is not blank: {why}")

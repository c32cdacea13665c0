"""`tillstone backup`: the whole box in one file, sealed to the recovery key; a running box sells on meanwhile.

Owns the file and the words. The content is the box's (`appliance/device/backup.py`): a stopped box is opened for it
here, with its TPM and token.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from appliance.ledger.backup_file import BackupHeader, read_header
from appliance.model.errors import Rejected, TillstoneError, Unavailable
from appliance.model.invariants import present
from provisioning.commands.folder import add_box
from provisioning.commands.outcome import DONE, CannotDo, add_json, entries, print_json
from provisioning.commands.status import box_of
from provisioning.commands.stopped import box_with_devices

if TYPE_CHECKING:
    from appliance.config.schema import Settings
    from appliance.device.backup import Backup

_AGAIN: Final = "run the same command again"
_NEXT: Final = {
    "backup_not_set_up": "name the recovery recipient in the settings, [backup] recipient_path, and start the box anew",
    "box_unreachable": f"{_AGAIN}; tillstone status says how the box is",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`backup -o FILE [--dir DIR] [--json]`."""
    parser = subparsers.add_parser(
        "backup",
        description="Seal log, vault, settings and their secrets into a file that only the recovery key opens.",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help="a new file")
    add_box(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask the running box, or open the stopped one."""
    output: Path = arguments.output
    if output.exists():
        raise CannotDo(f"{output} is there already", "name a new file: nothing is written over")
    partial = output.with_name(f"{output.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            try:
                _fill(arguments, file)
            except TillstoneError as refusal:
                raise CannotDo(
                    f"{refusal.detail} ({refusal.code})", _NEXT.get(refusal.code, f"no backup was made; {_AGAIN}")
                ) from refusal
            file.flush()
            os.fsync(file.fileno())
        header = _whole(partial)
        partial.rename(output)
    except OSError as cause:
        raise CannotDo(f"{output} cannot be written: {cause.strerror}", "name a file on another disk") from cause
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    _tell(output, header, arguments)
    return DONE


def _fill(arguments: argparse.Namespace, file: BinaryIO) -> None:
    try:
        box_of(arguments).backup(file)
    except Unavailable as away:
        if away.code != "box_unreachable" or file.tell():
            raise
        _fill_from_stopped(arguments, file)


def _fill_from_stopped(arguments: argparse.Namespace, file: BinaryIO) -> None:
    from provisioning.succession import settings_of

    with box_with_devices(arguments) as (box, tcti):
        asyncio.run(_seal(settings_of(box, tcti), file))


async def _seal(settings: Settings, file: BinaryIO) -> None:
    import msgspec

    from appliance.runtime.clock import SystemClock
    from appliance.runtime.log_open import open_log
    from appliance.runtime.supervise import supervised
    from appliance.wiring.backup import make_backup
    from appliance.wiring.opening import open_ledger
    from appliance.wiring.public import checkpoint_maker
    from appliance.wiring.trust import open_trust

    if settings.backup is None:
        raise Rejected("backup_not_set_up", "the settings name nobody to whom a backup is sealed")
    clock = SystemClock()
    refusal: TillstoneError | None = None
    with open_log(msgspec.structs.replace(settings.log, level="error"), clock=clock) as log:
        async with open_trust(settings, clock) as trust:
            ledger = await open_ledger(settings, trust, clock)
            try:
                async with supervised(log=log, clock=clock) as supervisor:
                    supervisor.start("head signing", ledger.sign_heads)
                    backup = make_backup(settings, trust, ledger, checkpoint_maker(trust, ledger, clock), clock)
                    try:
                        await _copy(present(backup, "the settings have a recipient"), file)
                    except TillstoneError as kept:  # to be told as it is, not as one of a group
                        refusal = kept
            finally:
                await ledger.close()
    if refusal is not None:
        raise refusal


async def _copy(backup: Backup, file: BinaryIO) -> None:
    async with aclosing(backup.stream()) as pieces:
        async for piece in pieces:
            file.write(piece)


def _whole(partial: Path) -> BackupHeader:
    with partial.open("rb") as file:
        try:
            return read_header(file)
        except Rejected as cut:
            raise CannotDo("the box went away in the middle; no backup was made", _NEXT["box_unreachable"]) from cut


def _tell(output: Path, header: BackupHeader, arguments: argparse.Namespace) -> None:
    size_bytes = output.stat().st_size
    if arguments.json:
        print_json(
            {
                "file": str(output),
                "log": header.origin,
                "size": header.size,
                "root": header.root.hex(),
                "made_ms": header.made_ms,
                "recipient": header.key_id.hex(),
                "bytes": size_bytes,
            }
        )
        return
    print(f"{output}: {entries(header.size)} of {header.origin}, {size_bytes / 1e6:.1f} MB, sealed")
    checking = f"tillstone restore {output} --check --recovery-key KEY --trust FILE"
    print(f"  next: check it where the recovery key is: {checking}")

"""`tillstone retire`: end a box for good, after somebody typed its serial number.

Owns the question and the words. What is done, and in which order, is `provisioning/ceremony/retire.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.model.errors import TillstoneError, Unavailable
from provisioning.commands.outcome import DONE, NO, CannotDo, add_json, print_json
from provisioning.commands.provision import FOLDER

if TYPE_CHECKING:
    from provisioning.box import Box
    from provisioning.ceremony.retire import Retired


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`retire [--dir] [--stick] [--reason] [--yes SERIAL]`."""
    parser = subparsers.add_parser(
        "retire",
        description="End a stopped box for good: its log says so under a last checkpoint, then token, TPM and files of"
        " secrets are destroyed and read back. There is no way back. Exit code 1 when something could not be proven:"
        " run it again.",
    )
    parser.add_argument("--dir", type=Path, metavar="DIR", default=FOLDER, help="the box (default: %(default)s)")
    parser.add_argument("--stick", type=Path, metavar="DIR", help="where certificate and proof are copied to")
    parser.add_argument("--reason", default="retired by its operator", help="stands in the log (default: %(default)s)")
    parser.add_argument("--yes", metavar="SERIAL", help="the serial number, instead of typing it")
    parser.add_argument(
        "--unsigned", action="store_true", help="also when the log cannot say its last words: a device is lost"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask, end it, say what was proven."""
    from provisioning.ceremony.record import only_installer

    box = _box(arguments.dir)
    _confirm(box, arguments.yes)
    with only_installer(box.folder), _stopped(box) as tcti:
        retired = asyncio.run(_end(box, tcti, arguments))
    _hand_over(box, arguments.stick)
    return _told(box, retired, arguments)


async def _end(box: Box, tcti: str | None, arguments: argparse.Namespace) -> Retired:
    from appliance.device.retirement import retired_for
    from provisioning.ceremony.retire import destroy, say_last_words
    from provisioning.succession import settings_of

    settings = settings_of(box, tcti)
    if retired_for(settings.storage.path) is None:
        try:
            await say_last_words(box, settings, arguments.reason)
        except TillstoneError as trouble:
            if not arguments.unsigned:
                raise CannotDo(
                    f"the log cannot say its last words: {trouble.detail} ({trouble.code}); nothing was destroyed",
                    "put that right; or --unsigned, which destroys what is left without them",
                ) from trouble
    return await destroy(box, settings, arguments.reason)


def _box(folder: Path) -> Box:
    from provisioning.box import BoxFailed, read_box

    place = next((path for path in (folder / "box", folder) if (path / "box.json").is_file()), folder)
    try:
        return read_box(place)
    except BoxFailed as trouble:
        raise CannotDo(str(trouble), "name the box's folder with --dir") from trouble


def _confirm(box: Box, given: str | None) -> None:
    serial = box.shop.serial
    if given is None and sys.stdin.isatty():
        print(f"This ends {box.shop.origin} for good. Its keys are destroyed; nothing brings them back.")
        given = input(f"Type the serial number ({serial}) to go on: ").strip()
    if given != serial:
        raise CannotDo(f"expected the serial number {serial}; nothing was destroyed", f"--yes {serial}")


@contextmanager
def _stopped(box: Box) -> Iterator[str | None]:
    """Where the TPM is, while nobody else has the box; None where its settings say."""
    from appliance.ledger.recover import lock_folder
    from provisioning.swtpm import powered_tpm

    try:
        if box.data.is_dir():
            os.close(lock_folder(box.data))  # looked at only: what follows opens the log itself
    except Unavailable as refusal:
        raise CannotDo("the box runs; nothing was destroyed", "stop it, then run the same command again") from refusal
    os.environ.update(box.environment)  # where SoftHSM finds its store
    if box.tpm.is_dir():
        with powered_tpm(box.tpm, None) as tcti:
            yield tcti
    else:
        yield None


def _hand_over(box: Box, stick: Path | None) -> None:
    from provisioning.ceremony.retire import CERTIFICATE, PROOF
    from provisioning.ceremony.stick import put

    for name in (CERTIFICATE, PROOF):
        if stick is not None and (box.folder / name).exists():
            put(stick, name, (box.folder / name).read_bytes())


def _told(box: Box, retired: Retired, arguments: argparse.Namespace) -> int:
    zeroised = retired.zeroised
    if arguments.json:
        certificate = None if retired.certificate is None else str(retired.certificate)
        print_json(
            {
                "retired": box.shop.origin,
                "proven": retired.is_proven,
                "certificate": certificate,
                "token_objects": zeroised.objects,
                "token": retired.token,
                "tpm": zeroised.tpm,
                "files": [str(file) for file in zeroised.files],
                "failures": list(zeroised.failures),
            }
        )
    else:
        print(f"{box.shop.origin} is retired and never starts again.")
        print(
            f"  token: {'nothing was left' if zeroised.objects is None else f'{zeroised.objects} objects destroyed'},"
        )
        print(f"         {retired.token}")
        print(f"  TPM:   {zeroised.tpm or 'not asked'}")
        print(f"  files: {len(zeroised.files)} overwritten")
        for failure in zeroised.failures:
            print(f"  NOT PROVEN: {failure}")
        if retired.certificate is not None:
            print(f"  its last words: {retired.certificate}")
            print("  next: tillstone provision verify FILE --trust trust.json; revoke its keys at the providers")
    return DONE if retired.is_proven else NO

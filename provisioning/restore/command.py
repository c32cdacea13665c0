"""`tillstone restore`: a new box of a backup, or the proof that a backup is one.

Owns arguments and words. Must never print a key. The steps are `restore.py`'s.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.ledger.checkpoint import NOTE_BYTES_MAX
from appliance.ledger.trust import TRUST_BYTES_MAX, load_trust
from appliance.model.errors import Rejected
from appliance.runtime.clock import SystemClock
from provisioning.commands.named_file import read_named
from provisioning.commands.outcome import DONE, CannotDo, add_json, entries, print_json
from provisioning.recipient_key import read_seed
from provisioning.verify.wording import printable, time_text

if TYPE_CHECKING:
    from provisioning.restore.restore import Step, Wish

_MADE_BY: Final = "tillstone owner recovery-key"
_NEXT: Final = {
    "backup_age_unknown": "bring the network up, or say --offline: then nobody says what came after the backup",
    "backup_stale": "take a newer backup; where there is none, --accept-loss N says that so many entries are missing",
    "backup_forked": "do not restore it: two logs have one name. Call whoever looks after the boxes",
    "backup_truncated": "copy the file again; where it is no longer elsewhere, take another backup",
    "backup_changed": "copy the file again; where it is no longer elsewhere, take another backup",
    "backup_wrong_key": "name the private key whose .pub stood in the box's settings when the backup was made",
    "backup_of_another_owner": "name the trust.json of the shop's owner, or the right backup",
    "restore_log_unfit": "name a file of `tillstone export log` of this box, made after the backup",
    "restore_not_blank": "name a new folder, or a box whose log has not begun",
    "restore_no_room": "free some space, or name a folder on another disk",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`restore FILE --recovery-key KEY --trust FILE (-C DIR | --check)`."""
    parser = subparsers.add_parser(
        "restore",
        description="Check a whole backup and put it into a blank box; the owner then signs its new log.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="what `tillstone backup` made")
    parser.add_argument(
        "--recovery-key", type=Path, required=True, metavar="KEY", help="the recovery key, the private one"
    )
    parser.add_argument("--trust", type=Path, required=True, metavar="FILE", help="trust.json: the owner you pin")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-C", "--dir", type=Path, metavar="DIR", help="a new folder, or a box whose log has not begun")
    where.add_argument("--check", action="store_true", help="only prove that it could be restored; makes no box")
    parser.add_argument("--tcti", metavar="TCTI", help="where the machine's TPM is (default: a software TPM in DIR)")
    parser.add_argument("--head", type=Path, metavar="FILE", help="a checkpoint that somebody kept, to judge its age")
    parser.add_argument("--log", type=Path, metavar="FILE", help="an exported log that goes further than the backup")
    parser.add_argument("--offline", action="store_true", help="ask no witness how long the log was")
    parser.add_argument(
        "--accept-loss", type=int, default=0, metavar="N", help="so many entries may be missing at its end"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, or restore; a refusal leaves the folder as blank as it was."""
    from provisioning.box import BoxFailed
    from provisioning.restore.restore import Wish
    from provisioning.swtpm import SwtpmError
    from provisioning.token import TokenFailed

    wish = Wish(
        file=arguments.file,
        seed=read_seed(arguments.recovery_key, made_by=_MADE_BY),
        trust=load_trust(read_named(arguments.trust, TRUST_BYTES_MAX)),
        tcti=arguments.tcti,
        is_offline=arguments.offline,
        kept_head=None if arguments.head is None else read_named(arguments.head, NOTE_BYTES_MAX),
        accepted_loss=arguments.accept_loss,
        further=arguments.log,
    )
    try:
        return _check(wish, arguments) if arguments.check else _restore(wish, arguments)
    except Rejected as refusal:
        step = _NEXT.get(refusal.code, "appliance/docs/formats/backup.md says what fits")
        raise CannotDo(f"{printable(refusal.detail)} ({refusal.code})", f"nothing was restored; {step}") from refusal
    except OSError as cause:
        raise CannotDo(f"{cause.filename or arguments.file}: {cause.strerror}", "see that it is there") from cause
    except (BoxFailed, SwtpmError, TokenFailed) as trouble:
        raise CannotDo(str(trouble), "put that right, then run the same command again") from trouble


def _check(wish: Wish, arguments: argparse.Namespace) -> int:
    from provisioning.restore.restore import check

    with tempfile.TemporaryDirectory(prefix="tillstone-restore-") as folder:
        checked = check(wish, Path(folder), _step(arguments))
    header = checked.header
    if arguments.json:
        print_json({"ok": True, "log": header.origin, "size": checked.size, "made_ms": header.made_ms})
    else:
        print(f"Whole and genuine: {entries(checked.size)} of {printable(header.origin)}, ", end="")
        print(f"made at {time_text(header.made_ms)}. It can be restored.")
    return DONE


def _restore(wish: Wish, arguments: argparse.Namespace) -> int:
    from provisioning.owner.statements import describe_request
    from provisioning.restore.restore import LAST_HEAD, restore
    from provisioning.succession import REQUEST

    done = restore(wish, arguments.dir, SystemClock(), _step(arguments))
    folder = done.box.folder
    if done.request is None:
        if arguments.json:
            print_json({"dir": str(folder), "size": done.size, "request": None})
        else:
            print(f"{folder} was restored before, and its new log has begun.")
        return DONE
    if arguments.json:
        says = list(describe_request(done.request))
        print_json({"dir": str(folder), "size": done.size, "request": str(folder / REQUEST), "says": says})
        return DONE
    print(
        f"{folder} holds {entries(done.size)} of {done.box.shop.origin}. {folder / REQUEST} asks the owner to sign:\n"
    )
    print("\n".join(f"  {line}" for line in describe_request(done.request)))
    known = f"--head {folder / LAST_HEAD} --trust {folder / 'trust.json'}"
    print(f"\n  next: tillstone owner succeed {folder / REQUEST} {known} --witness VKEY --share ... -o signed/")
    print(f"        tillstone succession begin signed/ --dir {folder}")
    return DONE


def _step(arguments: argparse.Namespace) -> Step:
    """Says where it is, for a person who waits."""
    return (lambda _name: None) if arguments.json else (lambda name: print(f"  {name}"))

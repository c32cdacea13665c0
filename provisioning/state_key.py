"""The recovery key of a box's encrypted state: made on the box, told once, and opened by the owner alone.

Without it the state opens by the TPM that it was sealed to alone, and with the TPM its content is lost. Owns the
enrolment and the sealed file. Must never keep the key in the clear: it goes to the owner's recovery recipient, or in
the developer image to the console.

* Making it again replaces the earlier one, so that a power cut before it was told leaves no key that nobody has.
* What tells that it was told is written last.

Source: LUKS2 on-disk format 1.1, section 2.1; systemd-cryptenroll(1); docs/formats/state-key.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.crypto.hpke import open_sealed, read_recipient
from appliance.model.errors import Rejected, TillstoneError, Unavailable
from provisioning.terminal.durable import write_durably

PURPOSE: Final = b"tillstone state recovery key 1"
# The release image's PCR policy is signed, so the key opens to this box in any confirmed slot.
BY_TPM: Final = ("--unlock-tpm2-device=auto",)
# modhex, chosen by systemd so that every keyboard layout types it alike.
_KEY: Final = re.compile(r"\A(?:[cbdefghijklnrtuv]{8}-){7}[cbdefghijklnrtuv]{8}\Z")
_UUID_PLACE: Final = slice(168, 208)
_LUKS_MAGIC: Final = b"LUKS\xba\xbe"
_END_S_MAX: Final = 120


def enrol(volume: Path, *, unlock: Sequence[str] = BY_TPM) -> str:
    """A new recovery key of the volume; every earlier one stops opening it.

    Raises:
        Rejected: `volume_not_encrypted`.
        Unavailable: `state_key_refused`, nothing changed.
    """
    volume_id(volume)
    command = ["systemd-cryptenroll", "--recovery-key", "--wipe-slot=recovery", *unlock, str(volume)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_END_S_MAX)
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise Unavailable("state_key_refused", f"systemd-cryptenroll: {type(cause).__name__}") from cause
    key = done.stdout.strip()
    if done.returncode != 0 or not _KEY.match(key):
        # What it printed may hold the key.
        raise Unavailable("state_key_refused", f"systemd-cryptenroll ended with {done.returncode}")
    return key


def volume_id(volume: Path) -> str:
    """The UUID in the LUKS2 header: which disk a key is for. Raises Rejected `volume_not_encrypted`."""
    with volume.open("rb") as file:
        header = file.read(_UUID_PLACE.stop)
    if not header.startswith(_LUKS_MAGIC):
        raise Rejected("volume_not_encrypted", f"{volume} has no LUKS header")
    return header[_UUID_PLACE].rstrip(b"\0").decode()


def seal_to(recipient: bytes, volume: Path, sealed: Path, *, unlock: Sequence[str] = BY_TPM) -> None:
    """Make a recovery key and write it to `sealed`, which only the recovery key's owner opens.

    Args:
        recipient: the file that `tillstone owner recovery-key` wrote.
    Raises:
        Rejected: `recipient_key_malformed`, before anything changed; and as `enrol`.
    """
    owner = read_recipient(recipient)
    line = f"{volume_id(volume)} {enrol(volume, unlock=unlock)}\n"
    beside = sealed.with_name(f".{sealed.name}")
    write_durably(beside, owner.seal(line.encode(), PURPOSE))
    # Not a secret: whoever carries it to the owner may read it, from the moment at which it is there.
    beside.chmod(0o644)
    beside.replace(sealed)


def open_file(sealed: bytes, seed: bytes) -> tuple[str, str]:
    """The volume's UUID and its key. Raises Rejected `seal_refused`: sealed for somebody else, or changed."""
    identifier, key = open_sealed(seed, sealed, PURPOSE).decode().split()
    return identifier, key


def main() -> int:
    """Run by the units of the image: `seal` in a shop's, `show` in a developer's."""
    parser = argparse.ArgumentParser(prog="python -m provisioning.state_key")
    parser.add_argument("action", choices=("seal", "show"))
    parser.add_argument("volume", type=Path)
    parser.add_argument("told", type=Path, help="the sealed key, or the file that says that it was shown")
    parser.add_argument("--recipient", type=Path, help="public half of the owner's recovery key")
    arguments = parser.parse_args()
    try:
        if arguments.action == "seal":
            seal_to(arguments.recipient.read_bytes(), arguments.volume, arguments.told)
        else:
            key = enrol(arguments.volume)
            sys.stdout.write(f"\nThe recovery key of this machine's state, shown this once:\n\n    {key}\n\n")
            sys.stdout.flush()
            write_durably(arguments.told, b"")
    except (TillstoneError, OSError) as refusal:
        sys.stderr.write(f"state key: {refusal}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

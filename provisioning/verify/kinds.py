"""What kind of file somebody gave to `tillstone verify`, by its first bytes, and the command that checks it.

Owns the table. Must never decide that a file is right: these bytes only tell what it claims to be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.ledger.checkpoint import NOTE_BYTES_MAX, read_checkpoint
from appliance.ledger.export import MAGIC, MAGIC_PRUNED
from appliance.ledger.tlog import PROOF_MAGIC
from appliance.model.errors import Rejected
from provisioning.commands.outcome import CannotDo

RECEIPT, BUNDLE, LOG, PROOF, CHECKPOINT = "receipt", "bundle", "log", "proof", "checkpoint"
_NAMES: Final = {
    RECEIPT: "a receipt",
    BUNDLE: "an evidence bundle",
    LOG: "an exported log",
    PROOF: "a proof of one entry (tlog-proof)",
    CHECKPOINT: "a checkpoint",
}
# A deterministic CBOR map begins with its size and its first key.
_FIRST_BYTES: Final = (
    (b"\xa4\x67entries", RECEIPT),
    (b"\xa3\x65heads", BUNDLE),
    (MAGIC, LOG),
    (MAGIC_PRUNED, LOG),
    (PROOF_MAGIC.encode(), PROOF),
)


def require_kind(file: bytes, wanted: str, path: Path, trust: Path) -> None:
    """Return if `file` may be of the `wanted` kind. Raises CannotDo, with the right command, when it is of another."""
    seen = kind_of(file)
    if seen is not None and seen != wanted:
        raise CannotDo(
            f"{path} is {_NAMES[seen]}, not {_NAMES[wanted]}",
            f"tillstone verify {seen} {path} --trust {trust}",
        )


def kind_of(file: bytes) -> str | None:
    """The kind that the file claims to be; None for anything else."""
    for first, kind in _FIRST_BYTES:
        if file.startswith(first):
            return kind
    try:
        read_checkpoint(file[: NOTE_BYTES_MAX + 1])
    except Rejected:
        return None
    return CHECKPOINT

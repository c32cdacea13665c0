"""How often each box's TPM had been started when it was last believed: kept beside the trust file, for the next time.

Owns the file `<trust file>.counts.json`. Must never let a count go back.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from appliance.model.errors import Rejected
from drivers.tpm.quote_check import BootCounts
from provisioning.commands.outcome import CannotDo
from provisioning.terminal.durable import write_durably

_FILE_BYTES_MAX = 1 << 20


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reset: int
    restart: int


def counts_file(trust_file: Path) -> Path:
    """Where they lie."""
    return trust_file.with_name(f"{trust_file.name}.counts.json")


def read_counts(file: Path) -> dict[str, BootCounts]:
    """By the name of the attestation key, in hexadecimal. Raises Rejected `counts_malformed`, and CannotDo."""
    try:
        encoded = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as cause:
        raise CannotDo(
            f"{file} cannot be read: {cause.strerror}", "counts of starts are kept there: see why"
        ) from cause
    try:
        kept = msgspec.json.decode(encoded[:_FILE_BYTES_MAX], type=dict[str, _Kept])
    except msgspec.MsgspecError as cause:
        # Starting anew would hide a TPM that was put in the place of another.
        raise Rejected("counts_malformed", f"{file} holds no counts of ours: {cause}") from cause
    return {name: BootCounts(reset=each.reset, restart=each.restart) for name, each in kept.items()}


def keep_counts(file: Path, name: str, counts: BootCounts) -> None:
    """Remember `counts`, which were not lower than those before. Raises CannotDo; the attestation was good even so."""
    kept = {**read_counts(file), name: counts}
    encoded = msgspec.json.encode(
        {known: _Kept(reset=each.reset, restart=each.restart) for known, each in kept.items()}
    )
    try:
        write_durably(file, msgspec.json.format(encoded, indent=2) + b"\n")
    except OSError as cause:
        raise CannotDo(
            f"{file} cannot be written: {cause.strerror}; what was asked was good",
            "keep the trust file in a folder of your own: counts of starts are kept beside it",
        ) from cause

"""The stick: a folder that an installer carries between a box and its owner.

Owns its files' names and reading them bounded. Must never believe what it reads, nor write anything but the request,
the transcript, the sealed recovery key of the state, and what went wrong.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.crypto.owner import STATEMENT_SIZE_MAX
from appliance.ledger.trust import TRUST_BYTES_MAX
from provisioning.commands.outcome import CannotDo
from provisioning.site import plan, statement

GENESIS: Final = "genesis.cbor"
TRUST: Final = "trust.json"
PROTOCOL: Final = "provision.txt"
_SIGNED_BYTES_MAX: Final = STATEMENT_SIZE_MAX + (64 << 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedSite:
    """What the owner answered, as it was read; nothing of it is believed yet."""

    site: bytes
    statement: bytes
    genesis: bytes
    trust: bytes

    @property
    def files(self) -> dict[str, bytes]:
        """By their names on the stick."""
        return {plan.NAME: self.site, statement.NAME: self.statement, GENESIS: self.genesis, TRUST: self.trust}


def read_signed_site(stick: Path) -> SignedSite | None:
    """The owner's answer; None when the stick carries no `site.toml` and no `site.cbor`.

    A file that is missing beside the others is read as empty: its check says so.
    """
    if not any((stick / name).exists() for name in (plan.NAME, statement.NAME)):
        return None
    return SignedSite(
        site=_read(stick / plan.NAME, 64 << 10),
        statement=_read(stick / statement.NAME, _SIGNED_BYTES_MAX),
        genesis=_read(stick / GENESIS, _SIGNED_BYTES_MAX),
        trust=_read(stick / TRUST, TRUST_BYTES_MAX),
    )


def put(stick: Path, name: str, content: bytes) -> None:
    """Write one file for the owner, when the stick does not have it already; on the stick when this returns."""
    path = stick / name
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as cause:
        raise CannotDo(f"{path} cannot be written: {cause.strerror}", "use a stick that can be written") from cause


def _read(path: Path, size_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size_max + 1)
    except FileNotFoundError:
        return b""
    except OSError as cause:
        raise CannotDo(f"{path} cannot be read: {cause.strerror}", "use another stick") from cause

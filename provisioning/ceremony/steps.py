"""What a step of the ceremony is. Owns the type; the steps are `devices.py` (first visit) and `install.py` (second)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from provisioning.box import Box, find_module, read_box
from provisioning.ceremony.record import Facts, Record
from provisioning.terminal.durable import write_durably
from provisioning.token import TokenKeys, softhsm_environment

TOKEN_KEYS = "token.json"  # noqa: S105 - public facts about the token's keys, the name of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a ceremony happens.

    Attributes:
        folder: of the box, its state.
        tcti: of the TPM, which runs.
        serial: what the box is called; None: by its TPM's certificate.
        record: the steps before this one.
        state_key: where the image leaves the sealed recovery key of the encrypted state; None where nothing does.
    """

    folder: Path
    tcti: str
    serial: str | None
    record: Record
    state_key: Path | None = None

    def fact(self, step: str, name: str) -> str:
        """What an earlier step found out."""
        return str((self.record.facts(step) or {})[name])

    @property
    def environment(self) -> dict[str, str]:
        """Where SoftHSM finds the token."""
        return softhsm_environment(self.folder / "token")

    def token_keys(self) -> TokenKeys:
        """Of the token that the ceremony made."""
        return msgspec.json.decode((self.folder / TOKEN_KEYS).read_bytes(), type=TokenKeys)

    def box(self) -> Box:
        """The box, once the owner has named its log."""
        return read_box(self.folder)

    def module(self) -> Path:
        """The token's library."""
        return find_module()

    def write(self, name: str, content: bytes) -> None:
        """A file of the box, durable on return."""
        path = self.folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. Run again after a crash at any line, it ends as if it had run once.

    Attributes:
        title: for eyes, as what is true afterwards.
        run: does it and says what it found or made; public facts.
    """

    name: str
    title: str
    run: Callable[[Place], Facts]

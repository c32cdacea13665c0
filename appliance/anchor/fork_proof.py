"""Proof of a fork: a head that both keys of this log signed, and that this log does not contain.

Owns what counts as proof, and the file in which it stays for people and for the next start. Must never take a word for
it: a size, a status or one signature of two prove nothing, whoever says them.

Source: docs/formats/cosignature.md, "Proof of a fork".
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from appliance.ledger.checkpoint import NOTE_BYTES_MAX, verify_head
from appliance.ledger.ledger import Ledger
from appliance.ledger.prover import Watermark
from appliance.ledger.recover import write_durably
from appliance.model.errors import Corrupt, Rejected

FILE: Final = "fork-proof.checkpoint"


class ForkProof:
    """Judges checkpoints that somebody shows, and keeps the one that proved a fork."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self._ledger = ledger
        self._file = folder / FILE

    async def judge(self, note: bytes) -> str | None:
        """How this log contradicts the checkpoint; None when it contains that head.

        Raises:
            Rejected: the codes of `verify_head`: it is none of this log's, so it proves nothing.
        """
        head = verify_head(note, origin=self._ledger.statement.origin, keys=self._ledger.keys)
        try:
            await self._ledger.check_watermark(Watermark(size=head.size, root=head.root))
        except Corrupt as contradiction:
            return contradiction.detail
        return None

    async def contradiction(self, note: bytes | None) -> str | None:
        """As `judge`; what is none of this log's, or not there, says nothing about it."""
        try:
            return None if note is None else await self.judge(note)
        except Rejected:
            return None

    async def keep(self, note: bytes) -> None:
        """Write the file. Raises OSError."""
        await asyncio.to_thread(write_durably, self._file, note)

    async def kept(self) -> str | None:
        """Why the file forbids selling, judged anew: the right disk may be back. None when it does not.

        Raises:
            Unavailable: as the ledger's reader.
        """
        found = await self.contradiction(await asyncio.to_thread(_read_if_there, self._file))
        return None if found is None else f"{FILE} holds a head that both keys of this log signed: {found}"


def _read_if_there(file: Path) -> bytes | None:
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        return stream.read(NOTE_BYTES_MAX + 1)

"""Gathers an evidence bundle: a receipt, and for its entries the earliest heads that others vouch for.

Owns which heads are picked: the first that enough witnesses cosigned, the first in a block, the one that was published
with the newest entry. Must never wait for evidence: what is not there yet is left out, and the verifier names it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.anchor.cars import published_root
from appliance.anchor.stamps import State, split_headers
from appliance.anchor.store import EvidenceStore
from appliance.evidence.bundle import EvidenceBundle, HeadEvidence, PublicationEvidence
from appliance.evidence.cid import dag_cbor_cid
from appliance.evidence.publication_root import read_root
from appliance.ledger.archive import Archive
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ledger.ledger import Ledger
from appliance.ledger.published import published_text
from appliance.ledger.tlog import TilePath
from appliance.model.errors import Unavailable

RECEIPT_WAIT_MS: Final = 5_000

# Of heads that cover the entries; the earliest says most about when.
_WITNESSED: Final = (
    "SELECT size FROM cosignatures WHERE size > ? GROUP BY size HAVING count(*) >= ? ORDER BY size LIMIT 1"
)
_ANCHORED: Final = "SELECT size FROM timestamps WHERE size > ? AND state = ? ORDER BY size LIMIT 1"
_PUBLISHED: Final = "SELECT size FROM cars WHERE first <= ?1 AND end > ?1 AND kept_ms IS NOT NULL LIMIT 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What the store has of one head."""

    size: int
    note: bytes
    cosignatures: bytes
    timestamp: bytes | None
    headers: tuple[bytes, ...]
    publication: bytes | None


class Gatherer:
    """Makes bundles; `needed` witnesses make a head witnessed."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        archive: Archive,
        checkpoints: CheckpointMaker | None,
        store: EvidenceStore,
        needed: int,
    ) -> None:
        """`checkpoints`: None for a log that has no key for them, and so has published nothing."""
        self._ledger = ledger
        self._archive = archive
        self._checkpoints = checkpoints
        self._store = store
        self._needed = max(1, needed)

    async def bundle(self, seqs: Sequence[int]) -> EvidenceBundle:
        """Everything that is known about the entries `seqs`, which exist.

        Raises:
            Unavailable: `receipt_pending`: no signature in time; and as the store and the signers.
        """
        receipt = await self._ledger.receipts(seqs, RECEIPT_WAIT_MS)
        if receipt is None:
            raise Unavailable("receipt_pending", f"expected a signed head within {RECEIPT_WAIT_MS} ms, saw none")
        seqs = [proven.seq for proven in receipt.entries]  # without those that were pruned
        newest = max(seqs)
        stored = await self._store.read(lambda connection: _heads(connection, newest, self._needed))
        return EvidenceBundle(receipt=receipt.encode(), heads=tuple([await self._head(each, seqs) for each in stored]))

    async def _head(self, stored: _Stored, seqs: Sequence[int]) -> HeadEvidence:
        proofs = [await self._archive.inclusion(seq, stored.size) for seq in seqs]
        return HeadEvidence(
            note=stored.note,
            paths=tuple(proof.path for proof in proofs),
            cosignatures=stored.cosignatures,
            timestamp=stored.timestamp,
            headers=stored.headers,
            publication=await self._publication(stored),
        )

    async def _publication(self, stored: _Stored) -> PublicationEvidence | None:
        """The address of what was published, signed now: it is true for ever, and asked for by operators only."""
        if stored.publication is None or self._checkpoints is None:
            return None
        root, cid = read_root(stored.publication), dag_cbor_cid(stored.publication)
        paths = [TilePath(level=at.level, number=at.number, width=at.width) for at in root.tiles]
        return PublicationEvidence(
            root=stored.publication,
            tiles=tuple([await self._archive.tile(path) for path in paths]),
            signatures=await self._checkpoints.signed(published_text(root.scope.origin, stored.size, cid)),
        )


def _heads(connection: sqlite3.Connection, newest: int, needed: int) -> list[_Stored]:
    picks = [(_WITNESSED, (newest, needed)), (_PUBLISHED, (newest,)), (_ANCHORED, (newest, State.CONFIRMED))]
    rows = [connection.execute(query, values).fetchone() for query, values in picks]
    if rows[-1] is None:  # nobody has looked at that block yet: the timestamp goes along without its headers
        rows.append(connection.execute(_ANCHORED, (newest, State.ATTESTED)).fetchone())
    return [_stored(connection, size) for size in sorted({row[0] for row in rows if row is not None})]


def _stored(connection: sqlite3.Connection, size: int) -> _Stored:
    (note,) = connection.execute("SELECT note FROM checkpoints WHERE size = ?", (size,)).fetchone()
    lines = connection.execute("SELECT lines FROM cosignatures WHERE size = ? ORDER BY witness", (size,)).fetchall()
    stamped = connection.execute(
        "SELECT proof, detail FROM timestamps WHERE size = ? AND state IN (?, ?) ORDER BY state = ? DESC LIMIT 1",
        (size, State.ATTESTED, State.CONFIRMED, State.CONFIRMED),
    ).fetchone()
    return _Stored(
        size=size,
        note=note,
        cosignatures=b"".join(line for (line,) in lines),
        timestamp=None if stamped is None else stamped[0],
        headers=() if stamped is None else tuple(split_headers(stamped[1])),
        publication=published_root(connection, size),
    )

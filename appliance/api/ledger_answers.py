"""What the doors say about the log: histories, digests and proofs, in the shapes of JSON.

Owns the shapes. Must never decide who may ask: history and digest at a time show business, so a door gives them to
auditors and operators only; proofs show hashes.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.crypto import cbor
from appliance.ledger.archive import Archive
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ledger.entry import Entry
from appliance.ledger.merkle import leaf_hash
from appliance.ledger.tlog import TlogProof
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import request_key
from appliance.model.limits import ENTRY_BYTES_MAX
from appliance.payment.history import history_seqs

_NUMBER: Final = re.compile(r"\A(?:0|[1-9][0-9]{0,17})\Z")
_KEYS: Final = frozenset({"key", "payment"})


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The answer, and which entries it shows."""

    seqs: tuple[int, ...]
    body: dict[str, Any]


def whole_number(values: Mapping[str, str], name: str) -> int:
    """A number of the path or the query. Raises Rejected `question_malformed`."""
    text = values.get(name, "")
    if not _NUMBER.match(text):
        raise Rejected("question_malformed", f"expected a whole number for `{name}`")
    return int(text)


def moment_ms(text: str) -> int:
    """A time: Unix milliseconds, or RFC 3339 with an offset. Raises Rejected `question_malformed`."""
    if _NUMBER.match(text):
        return int(text)
    try:
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Rejected("question_malformed", "expected Unix milliseconds or a time such as 2026-11-24T15:00:00Z")
    return round(moment.timestamp() * 1_000)


class LedgerAnswers:
    """Asks the archive and words what it says."""

    def __init__(self, *, archive: Archive, checkpoints: CheckpointMaker | None) -> None:
        self._archive = archive
        self._checkpoints = checkpoints

    async def history(self, key: str) -> History:
        """Every entry that concerns the payment that `key` (its own or its refund's) is about, in order.

        Raises:
            Rejected: `payment_unknown`, and the codes of `request_key`.
        """
        asked = request_key(key)
        payment, seqs = await self._archive.read(lambda connection: history_seqs(connection, asked))
        found = await self._archive.entries(seqs)
        return History(
            seqs=seqs,
            body={
                "payment": None if payment is None else str(uuid.UUID(bytes=payment)),
                "entries": [_entry_fields(entry) for entry in found],
            },
        )

    async def require_entry(self, seq: int) -> None:
        """Return if entry `seq` exists. Raises Rejected `entry_unknown`."""
        await self._archive.entry(seq)

    async def digest(self, at: str | None) -> dict[str, Any]:
        """The head as of a time; None is now."""
        at_ms = None if at is None else moment_ms(at)
        found = await self._archive.digest_at(at_ms)
        return {
            "at": None if at_ms is None else _rfc3339(at_ms),
            "size": found.head.size,
            "root": found.head.root.hex(),
            "last": _moment(found.last),
            "following": _moment(found.following),
        }

    async def inclusion(self, seq: int, size: int) -> dict[str, Any]:
        """Entry `seq` under the head of `size`; true for ever."""
        proof = await self._archive.inclusion(seq, size)
        return {
            "seq": seq,
            "size": size,
            "root": proof.head.root.hex(),
            "leaf": proof.leaf.hex(),
            "path": [node.hex() for node in proof.path],
        }

    async def consistency(self, size1: int, size2: int) -> dict[str, Any]:
        """That the log of `size2` extends the one of `size1`; true for ever."""
        path = await self._archive.consistency(size1, size2)
        return {"from": size1, "to": size2, "path": [node.hex() for node in path]}

    async def proof_file(self, seq: int) -> bytes:
        """A tlog-proof under the newest checkpoint, without the entry: who asks has it, or gets no more than a hash.

        Raises:
            Rejected: `not_found`: this log has no key for checkpoints; `entry_unknown`.
            Unavailable: `checkpoint_pending`: it is newer than the newest checkpoint. Signing one for each stranger who
                asks would let strangers spend the HSM's time.
        """
        head, note = await self._maker().current_head()
        if head.size <= seq < self._archive.size:
            raise Unavailable("checkpoint_pending", f"entry {seq} comes under the next checkpoint, within a second")
        proof = await self._archive.inclusion(seq, head.size)
        return TlogProof(index=seq, path=proof.path, checkpoint=note).encode()

    async def operators_proof_file(self, seq: int, size: int | None) -> bytes:
        """The same with the entry inside and under any size (None: all), whose checkpoint is signed for it."""
        proof = await self._archive.inclusion(seq, self._archive.size if size is None else size)
        note = await self._maker().of(proof.head)
        entry = await self._archive.entry(seq)
        return TlogProof(index=seq, path=proof.path, checkpoint=note, extra=entry).encode()

    def _maker(self) -> CheckpointMaker:
        if self._checkpoints is None:
            raise Rejected("not_found", "this log has no key for checkpoints until its keys are rotated")
        return self._checkpoints


def _entry_fields(entry: Entry) -> dict[str, Any]:
    """`entry` is all of its bytes: whoever has them needs to believe no other member."""
    return {
        "seq": entry.seq,
        "time_ms": entry.time_ms,
        "time": _rfc3339(entry.time_ms),
        "kind": entry.kind,
        "actor": entry.actor,
        "body": _plain("", cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX)),
        "leaf": leaf_hash(entry.encoded).hex(),
        "entry": entry.encoded.hex(),
    }


def _plain(name: str, value: object) -> object:
    """For JSON: keys as terminals write them, other bytes in hexadecimal."""
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value)) if name in _KEYS and len(value) == 16 else value.hex()
    if isinstance(value, list):
        return [_plain("", item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(str(key), item) for key, item in value.items()}
    return value


def _moment(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {"seq": entry.seq, "time_ms": entry.time_ms, "time": _rfc3339(entry.time_ms)}


def _rfc3339(time_ms: int) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(time_ms / 1_000, datetime.UTC)
    except (ValueError, OverflowError):
        return f"{time_ms} ms"  # beyond the year 9999
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

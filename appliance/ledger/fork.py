"""Forks: two signed statements of one log that cannot both be true are proof that its keys told two stories.

Owns the comparison. Must never guess from sizes: heads of different sizes contradict each other only where both show
the same place with different entries.

Source: docs/formats/succession.md, "Fork".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.ledger.checkpoint import read_checkpoint, verify_checkpoint
from appliance.ledger.genesis import LogId
from appliance.ledger.merkle import leaf_hash
from appliance.ledger.receipt import verify_receipt
from appliance.ledger.trust import Trust
from appliance.model.errors import Rejected

_RECEIPT_BEGINS: Final = b"\xa4"  # a CBOR map of four; a checkpoint is text


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one file says: a head of a log, and the leaf hashes of the entries shown under it."""

    log_id: LogId
    size: int
    root: bytes
    leaves: Mapping[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Where two stories part.

    Attributes:
        seq: the place that both fill differently; None when only the roots of one size differ.
    """

    log_id: LogId
    sizes: tuple[int, int]
    seq: int | None


def read_told(file: bytes, trust: Trust) -> Told:
    """What a receipt or a checkpoint says, if the log's keys signed it. A distrusted key counts: it signed both.

    Raises:
        Rejected: as `verify_receipt` or `verify_checkpoint`; `checkpoint_origin_unknown`.
    """
    logs = {log_id: keys.without(()) for log_id, keys in trust.keys.items()}
    if file.startswith(_RECEIPT_BEGINS):
        receipt = verify_receipt(file, logs)
        leaves = {entry.seq: leaf_hash(entry.encoded) for entry in receipt.entries}
        return Told(log_id=receipt.log_id, size=receipt.size, root=receipt.root, leaves=leaves)
    said = read_checkpoint(file)
    log_id = next((log_id for log_id, statement in trust.logs.items() if statement.origin == said.origin), None)
    if log_id is None:
        raise Rejected("checkpoint_origin_unknown", f"{said.origin[:80]} is not among {len(logs)} trusted logs")
    period = logs[log_id].at(said.size)
    head = verify_checkpoint(file, origin=said.origin, note_key=period.note_key, post_quantum=period.keys.post_quantum)
    return Told(log_id=log_id, size=head.size, root=head.root, leaves={})


def fork_of(one: Told, other: Told) -> Fork | None:
    """How the two contradict each other; None when both may be true."""
    if one.log_id != other.log_id:
        return None
    sizes = (one.size, other.size)
    for seq in sorted(one.leaves.keys() & other.leaves.keys()):
        if one.leaves[seq] != other.leaves[seq]:
            return Fork(log_id=one.log_id, sizes=sizes, seq=seq)
    if one.size == other.size and one.root != other.root:
        return Fork(log_id=one.log_id, sizes=sizes, seq=None)
    return None

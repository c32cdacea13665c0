"""Evidence: what others than the box say about the heads that cover an entry.

Owns the joining: receipt, heads, witnesses, blocks and publications must be about the same entries of the same log.
Must never count what is missing as right: an absent part is None or empty, and whoever asks decides what he demands.

Source: docs/formats/evidence.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from appliance.evidence.block import Network
from appliance.evidence.bundle import HeadEvidence
from appliance.evidence.cid import dag_cbor_cid, raw_cid
from appliance.evidence.cosignature import Cosignature, WitnessPolicy, verify_cosignatures
from appliance.evidence.publication_root import read_root
from appliance.evidence.timestamp import Attested, verify_timestamp
from appliance.ledger.checkpoint import Checkpoint, claimed_size, verify_checkpoint
from appliance.ledger.log_keys import KeyPeriod, LogKeys
from appliance.ledger.merkle import leaf_hash, root_from_inclusion
from appliance.ledger.publication import verify_tiles
from appliance.ledger.published import verify_published
from appliance.ledger.receipt import VerifiedReceipt
from appliance.model.errors import Rejected
from appliance.model.ids import Cid


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Whom a verifier believes: which witnesses, which chain, how much work per header (None: the network's own)."""

    witnesses: WitnessPolicy
    network: Network
    work_min: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A publication: its address, and the entries first <= seq < end that it holds for the auditor.

    Attributes:
        tiles: how many hash tiles were checked.
        signed_by: the keys that say so.
    """

    cid: Cid
    first: int
    end: int
    tiles: int
    signed_by: KeyPeriod


def verify_head(head: HeadEvidence, receipt: VerifiedReceipt, *, origin: str, keys: LogKeys) -> Checkpoint:
    """The checkpoint, if the log's keys of that size signed it and every entry of the receipt lies under it.

    Whether the owner still trusts those keys is for whoever knows all heads: `LogKeys.require_trusted`.

    Raises:
        Rejected: `evidence_paths_missing`, `evidence_path_wrong`, and the codes of `verify_checkpoint`.
    """
    signing = keys.at(claimed_size(head.note))
    checkpoint = verify_checkpoint(
        head.note, origin=origin, note_key=signing.note_key, post_quantum=signing.keys.post_quantum
    )
    if len(head.paths) != len(receipt.entries):
        raise Rejected(
            "evidence_paths_missing",
            f"expected a path for each entry ({len(receipt.entries)}), saw {len(head.paths)}",
        )
    for entry, path in zip(receipt.entries, head.paths, strict=True):
        if root_from_inclusion(leaf_hash(entry.encoded), entry.seq, checkpoint.size, path) != checkpoint.root:
            raise Rejected(
                "evidence_path_wrong", f"no path from entry {entry.seq} to the checkpoint of {checkpoint.size} entries"
            )
    return checkpoint


def verify_witnesses(head: HeadEvidence, checkpoint: Checkpoint, demand: Demand) -> tuple[Cosignature, ...]:
    """The cosignatures of known witnesses; lines of unknown ones prove nothing and are skipped.

    Raises:
        Rejected: as `verify_cosignatures`.
    """
    return verify_cosignatures(checkpoint.text(), head.cosignatures, demand.witnesses.keys)


def verify_block(head: HeadEvidence, demand: Demand) -> Attested | None:
    """The block that the checkpoint's timestamp leads to; None without a timestamp, or without the block's header.

    Raises:
        Rejected: as `verify_timestamp`.
    """
    if head.timestamp is None or not head.headers:
        return None
    digest = hashlib.sha256(head.note).digest()
    return verify_timestamp(head.timestamp, digest, head.headers, network=demand.network, work_min=demand.work_min)


def verify_publication(head: HeadEvidence, checkpoint: Checkpoint, *, keys: LogKeys) -> Published | None:
    """The address under which the log says that it published this very checkpoint; None when the bundle names none.

    Every byte of the part is covered: the root by the signatures over its address, the tiles by the root and the tree.
    That anybody keeps what the root names is not shown. Whether the owner trusts the keys is for the caller to ask.

    Raises:
        Rejected: `evidence_publication_wrong`: it is about another checkpoint, or a tile is not what the root names;
            and the codes of `read_root`, `verify_tiles` and `verify_published`.
    """
    if head.publication is None:
        return None
    root, cid = read_root(head.publication.root), dag_cbor_cid(head.publication.root)
    if (root.scope.origin, root.size, root.checkpoint) != (checkpoint.origin, checkpoint.size, raw_cid(head.note)):
        raise Rejected("evidence_publication_wrong", "the published root names another checkpoint than this one")
    if tuple(root.tiles.values()) != tuple(raw_cid(hashes) for hashes in head.publication.tiles):
        raise Rejected("evidence_publication_wrong", "the tiles are not those that the published root names")
    verify_tiles(root, dict(zip(root.tiles, head.publication.tiles, strict=True)), checkpoint)
    period = verify_published(
        head.publication.signatures, origin=checkpoint.origin, size=checkpoint.size, cid=cid, keys=keys
    )
    return Published(cid=cid, first=root.scope.first, end=root.scope.end, tiles=len(root.tiles), signed_by=period)

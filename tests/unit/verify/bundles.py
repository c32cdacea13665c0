"""Evidence bundles of the shop's log: whole ones, and the parts of which forgeries are put together. Holds no test."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from appliance.crypto import signing_key
from appliance.evidence.block import REGTEST, decode_header
from appliance.evidence.bundle import EvidenceBundle, HeadEvidence, PublicationEvidence
from appliance.evidence.cid import raw_cid
from appliance.evidence.cosignature import WitnessPolicy
from appliance.evidence.ots import SHA256, InBlock, Promised, Proof, append, timestamp_through
from appliance.evidence.ots_file import encode_proof
from appliance.evidence.publication_root import ChunkAt, Root, Scope, Sealing, TileAt
from appliance.ledger.checkpoint import Checkpoint, sign_checkpoint, sign_lines
from appliance.ledger.evidence import Demand
from appliance.ledger.merkle import leaf_hash
from appliance.ledger.published import published_text
from appliance.ledger.receipt import ReceiptBundle
from appliance.ports.chain import BlockHash
from appliance.ports.signer import Signer
from provisioning.verify.bundle_check import Wanted, check_bundle
from provisioning.verify.report import Report
from tests.fakes.log import shop_log
from tests.regtest import mined_header
from tests.unit.evidence.test_cosignature import Witness
from tests.unit.ledger.shop import SeededSigner, genesis, signers

TIME_S = 1_790_000_000
NOW_MS = 1_000 * (TIME_S + 86_400)
STEPS = [append(b"salt"), SHA256]
HEIGHT = 812


SALE, CARD = (4,), (6, 7)


@cache
def witness() -> Witness:
    return Witness("w1.example")


def demand(needed: int = 1, **changes: Any) -> Demand:
    return replace(Demand(witnesses=WitnessPolicy(keys=witness().keys, needed=needed), network=REGTEST), **changes)


@cache
def checkpoint() -> Checkpoint:
    head = shop_log().whole.head
    return Checkpoint(origin=genesis().read().origin, size=head.size, root=head.root)


@cache
def note() -> bytes:
    signer = SeededSigner(signing_key.ed25519_from_seed(bytes(31) + b"\x01"))
    return asyncio.run(sign_checkpoint(checkpoint(), note=signer, post_quantum=signers().post_quantum))


def anchor(of: bytes, claim: InBlock | Promised | None = None) -> tuple[bytes, tuple[bytes, ...]]:
    """An `.ots` of `of` and six headers, the first of which commits to it."""
    digest = hashlib.sha256(of).digest()
    message = digest
    for step in STEPS:
        message = step.apply(message)
    headers = [mined_header(BlockHash(bytes(32)), message, TIME_S)]
    while len(headers) < 6:
        headers.append(mined_header(decode_header(headers[-1]).block_hash, bytes(32), TIME_S + 600 * len(headers)))
    proof = Proof(timestamp=timestamp_through(digest, STEPS, claim or InBlock(height=HEIGHT)))
    return encode_proof(proof), tuple(headers)


def root_of(of: bytes, size: int, **changes: Any) -> Root:
    tiles = {TileAt(level=0, number=0, width=size): raw_cid(leaves())}
    root = Root(
        scope=Scope(origin=checkpoint().origin, first=0, end=size),
        size=size,
        checkpoint=raw_cid(of),
        consistency=(),
        sealing=Sealing(recipient=bytes(32), seal=b"sealed"),
        previous=None,
        tiles=tiles,
        chunks={ChunkAt(first=0, count=size): raw_cid(b"encrypted")},
    )
    return replace(root, **changes)


def leaves() -> bytes:
    return b"".join(leaf_hash(proven.entry) for proven in shop_log().whole.entries)


def address_signed(root: Root, post_quantum: Signer | None = None) -> bytes:
    return asyncio.run(
        sign_lines(
            published_text(root.scope.origin, root.size, root.block().cid),
            origin=root.scope.origin,
            note=SeededSigner(signing_key.ed25519_from_seed(bytes(31) + b"\x01")),
            post_quantum=post_quantum or signers().post_quantum,
        )
    )


def published(root: Root, tiles: tuple[bytes, ...] | None = None) -> PublicationEvidence:
    """As a box that has published `root` says so."""
    return PublicationEvidence(
        root=root.block().content, tiles=(leaves(),) if tiles is None else tiles, signatures=address_signed(root)
    )


def forged(**changes: Any) -> HeadEvidence:
    """The whole head with another root block, by somebody without the log's keys: the signatures stay."""
    root = root_of(note(), checkpoint().size, **changes)
    part = whole_head().publication
    assert part is not None
    return replace(whole_head(), publication=replace(part, root=root.block().content))


@cache
def whole_head(seqs: tuple[int, ...] = SALE) -> HeadEvidence:
    timestamp, headers = anchor(note())
    return HeadEvidence(
        note=note(),
        paths=tuple(shop_log().whole.entries[seq].path for seq in seqs),
        cosignatures=witness().lines(checkpoint().text(), TIME_S - 60),
        timestamp=timestamp,
        headers=headers,
        publication=published(root_of(note(), checkpoint().size)),
    )


def bundle(*heads: HeadEvidence, seqs: tuple[int, ...] = SALE) -> bytes:
    receipt = ReceiptBundle(
        head=shop_log().whole.head, entries=tuple(shop_log().whole.entries[seq] for seq in seqs)
    ).encode()
    return EvidenceBundle(receipt=receipt, heads=heads).encode()


def wanted(*required: str, **changes: Any) -> Wanted:
    return replace(Wanted(required=required, now_ms=NOW_MS), **changes)


def check(file: bytes, believed: Demand | None = None, required: Sequence[str] = ()) -> Report:
    return check_bundle(file, shop_log().trust, believed or demand(), wanted(*required))

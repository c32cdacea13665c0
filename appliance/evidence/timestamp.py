"""The offline check of a timestamp: this digest existed when that block was made.

Owns which claim of a proof counts. It needs the proof and the block's header with those that follow it; no network, no
node. It cannot know that the headers are on the best chain: the work in them is what a forger would have to pay.

Source: docs/formats/timestamp.md section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.evidence.block import Network, check_work, decode_header
from appliance.evidence.ots import InBlock, Promised
from appliance.evidence.ots_file import decode_proof
from appliance.model.errors import Rejected
from appliance.ports.chain import BlockHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What a proof and its headers show.

    Attributes:
        block_hash: of the block whose header commits to the digest.
        time_s: the time in that header, seconds since 1970.
        height: what the proof calls the block. A header does not hold its height: look the hash up to be sure of it.
        confirmations: headers that were checked, the block's own included.
        work: expected hashes of all of them together.
    """

    block_hash: BlockHash
    time_s: int
    height: int
    confirmations: int
    work: int


def verify_timestamp(
    encoded: bytes, digest: bytes, headers: Sequence[bytes], *, network: Network, work_min: int | None = None
) -> Attested:
    """Check that the `.ots` file `encoded` ties `digest` to the first of `headers` (80 bytes each, in a row).

    Raises:
        Rejected: `timestamp_malformed`, `timestamp_unsupported`; `timestamp_of_another_digest`; `timestamp_pending`
            (only a calendar's promise so far); `timestamp_other_network` (only other chains);
            `timestamp_block_mismatch` (the path does not lead to this block); `block_malformed`,
            `block_work_missing`, `block_work_low`, `block_other_network`, `block_chain_broken`.
    """
    proof = decode_proof(encoded)
    if proof.digest != digest:
        raise Rejected(
            "timestamp_of_another_digest", f"expected a proof of {digest.hex()}, saw one of {proof.digest.hex()}"
        )
    claims = list(proof.timestamp.claims())
    in_blocks = [(message, claim) for message, claim in claims if isinstance(claim, InBlock)]
    if not in_blocks:
        if any(isinstance(claim, Promised) for _, claim in claims):
            raise Rejected(
                "timestamp_pending", "a calendar promised this timestamp; upgrade it once its block is there"
            )
        raise Rejected("timestamp_other_network", "expected an attestation of a Bitcoin block, saw only others")
    if not headers:
        raise Rejected("block_malformed", "expected the header of the block, saw none")
    decoded = [decode_header(header) for header in headers]
    check_work(decoded, network, network.work_min if work_min is None else work_min)
    block = decoded[0]
    heights = [claim.height for message, claim in in_blocks if message == block.merkle_root]
    if not heights:
        raise Rejected("timestamp_block_mismatch", "no path of the proof leads to the Merkle root of this block")
    return Attested(
        block_hash=block.block_hash,
        time_s=block.time_s,
        height=min(heights),
        confirmations=len(decoded),
        work=sum(header.work for header in decoded),
    )
